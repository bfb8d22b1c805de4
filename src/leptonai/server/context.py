"""What the server is made of, wired in one place: records, blobs, keys, queue, and who waits for what."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from leptonai.core import plugins, settings
from leptonai.core.errors import Conflict, NotFound
from leptonai.core.nouns import Blob, Service, ServiceStatus, Site
from leptonai.core.ports import Catalog, Store
from leptonai.core.states import ServiceState
from leptonai.runs.queue import Queue
from leptonai.server import rotation
from leptonai.server.callers import Callers
from leptonai.server.heard import HeardCatalog
from leptonai.server.keyfile import KeyFile
from leptonai.server.keys import CatalogKeyring, new_token
from leptonai.server.stream import Wakes
from leptonai.server.uploads import Uploads


@dataclass
class Context:
    """The parts of one running server."""

    catalog: Catalog
    raw: Store  # bytes as they are given
    store_url: str
    keyfile: KeyFile
    queue: Queue
    wakes: Wakes = field(default_factory=Wakes)
    uploads: Uploads = field(default_factory=Uploads)
    local_token: str = field(default_factory=lambda: new_token("local").text)  # all rights, on this machine
    agent_token: str = field(default_factory=lambda: new_token("agent").text)  # of the agent of Site home
    hosts: frozenset[str] = frozenset({"127.0.0.1", "localhost", "::1"})
    home: Path | None = None
    callers: Callers = field(init=False)
    rotator: rotation.Rotator = field(init=False)

    def __post_init__(self) -> None:
        self.callers = Callers(self.catalog, self.wakes, self.local_token)
        self.rotator = rotation.Rotator(self.catalog, self.keyfile)

    def sealed(self, owner: str) -> Store:
        """Return the store as `owner` uses it: everything encrypted, keys kept in the catalog."""
        return plugins.sealed(self.raw, self.keyring(owner))

    def keyring(self, owner: str, scope: str = "") -> CatalogKeyring:
        """Return the keyring in which `owner` keeps data keys; what it binds takes the permission `scope` to be read."""
        return CatalogKeyring(self.catalog, self.keyfile, owner, scope)

    def reach(self, site: str) -> str | None:
        """Return the store's URL as a Site reaches it: a folder is within reach of this machine's own Site only."""
        folder = "://" not in self.store_url or self.store_url.startswith("file:")
        return self.store_url if site == "home" or not folder else None

    def close(self) -> None:
        """Close the database."""
        close = getattr(self.catalog, "close", None)
        if close is not None:
            close()


def open_context(home: Path, database_url: str | None, store_url: str | None, lease_seconds: float) -> Context:
    """Open, or make, what lies in a home folder."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    wakes = Wakes()
    wakes.alone = database_url is None  # the home is locked by this server
    catalog = HeardCatalog(plugins.catalog(database_url or f"sqlite:///{home / 'catalog.sqlite'}"), wakes)
    url = store_url or str(home / "blobs")
    # A fresh key where sealed blobs exist would lock them away for good.
    used = bool(catalog.find(Blob, limit=1))
    context = Context(
        catalog=catalog,
        raw=plugins.store(url),
        store_url=url,
        keyfile=KeyFile.open(home / "kek.key", create=not used, lock=settings.get("key_lock") or ""),
        queue=Queue(catalog, lease_seconds=lease_seconds),
        wakes=wakes,
        home=home,
    )
    if not rotation.follow(catalog, context.keyfile):
        context.close()
        raise NotFound(rotation.behind(context.keyfile))
    if not catalog.find(Site, {"name": "home"}, limit=1):
        with contextlib.suppress(Conflict):  # another server on the same database was faster
            catalog.add(Site.new(name="home"))
    return context


def forget_what_answered(context: Context) -> None:
    """Say of this machine's Services that none answers: their plane ended with the server before this one.

    Done at each start, before the agent is started, which soon says what is true. Which versions answered last is kept: the
    agent loads the last good one first.
    """
    after = None
    while page := context.catalog.find(Service, {"site": "home"}, after=after):
        for service in page:
            old = service.status
            if service.stopped or old.state in (ServiceState.STARTING, ServiceState.STOPPED):
                continue
            status = ServiceStatus(state=ServiceState.STARTING, rev=old.rev, live=old.live)
            with contextlib.suppress(Conflict):  # somebody moves it just now, who knows better
                context.catalog.change(service.model_copy(update={"status": status}))
        after = page[-1].id
