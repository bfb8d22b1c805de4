"""What the server is made of, wired in one place: records, blobs, keys, queue, and who waits for what."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from leptonai.core import plugins
from leptonai.core.nouns import Blob, Site, utcnow
from leptonai.core.ports import Catalog, Store
from leptonai.runs.queue import Queue
from leptonai.server.keys import CatalogKeyring, KeyFile
from leptonai.server.stream import Wakes


@dataclass
class Context:
    """The parts of one running server."""

    catalog: Catalog
    raw: Store  # bytes as they are given
    store_url: str
    keyfile: KeyFile
    queue: Queue
    wakes: Wakes = field(default_factory=Wakes)
    local_token: str = field(default_factory=lambda: f"llt_{secrets.token_urlsafe(32)}")  # all rights, on this machine
    agent_token: str = field(default_factory=lambda: f"lat_{secrets.token_urlsafe(32)}")  # of the agent of Site home
    hosts: frozenset[str] = frozenset({"127.0.0.1", "localhost", "::1", "testserver"})

    def sealed(self, owner: str) -> Store:
        """Return the store as `owner` uses it: everything encrypted, keys kept in the catalog."""
        return plugins.sealed(self.raw, CatalogKeyring(self.catalog, self.keyfile, owner))

    def keyring(self, owner: str) -> CatalogKeyring:
        """Return the keyring in which `owner` keeps data keys."""
        return CatalogKeyring(self.catalog, self.keyfile, owner)

    def close(self) -> None:
        """Close the database."""
        close = getattr(self.catalog, "close", None)
        if close is not None:
            close()


def open_context(home: Path, database_url: str | None, store_url: str | None, lease_seconds: float) -> Context:
    """Open, or make, what lies in a home folder."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    catalog = plugins.catalog(database_url or f"sqlite:///{home / 'catalog.sqlite'}")
    url = store_url or str(home / "blobs")
    # A fresh key where sealed blobs exist would lock them away for good.
    used = bool(catalog.find(Blob, limit=1))
    context = Context(
        catalog=catalog,
        raw=plugins.store(url),
        store_url=url,
        keyfile=KeyFile.open(home / "kek.key", create=not used),
        queue=Queue(catalog, lease_seconds=lease_seconds),
    )
    if not catalog.find(Site, {"name": "home"}, limit=1):
        catalog.add(Site.new(name="home", seen=utcnow()))
    return context
