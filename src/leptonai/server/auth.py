"""Who calls, and what he may do: API keys, this machine's own token, the agent's, and the tokens of Runs."""

import contextlib
import hmac
import threading
import time
from dataclasses import dataclass, replace

from leptonai.core.errors import Conflict, Denied, NotFound, Unauthenticated
from leptonai.core.nouns import Key, Run, utcnow
from leptonai.core.stages import STAGES
from leptonai.runs.queue import digest
from leptonai.server.context import Context
from leptonai.server.keys import check_of, new_token, parse_token
from leptonai.server.scopes import ANY_KEY, PUBLIC, REPORT, RUN_MAY, STAGE, sites, spread

_CACHE_SECONDS = 0.5  # a revoked key fails within this
_UNKNOWN = "the key is not known here: was it made on another server?"


@dataclass(frozen=True)
class Caller:
    """Somebody who proved who he is."""

    name: str
    scopes: frozenset[str]
    run: Run | None = None  # set for the process of a Run: then it may touch only what the Run names
    sites: frozenset[str] = frozenset()  # where he may be the agent
    here: bool = False  # whether he is a program of the server's own user, on its machine

    @property
    def owner(self) -> str:
        """Whose blobs he writes."""
        return self.run.id if self.run is not None else self.name

    @property
    def everything(self) -> bool:
        """Whether he may do anything."""
        return "*" in self.scopes

    def may(self, permission: str) -> bool:
        """Whether he has the permission."""
        if permission in (PUBLIC, ANY_KEY):
            return True
        if permission == STAGE:
            asks = self.run is None  # no Run asks for another, whatever it may read
            return self.everything or (asks and any(stage.permission in self.scopes for stage in STAGES.values()))
        return self.everything or permission in self.scopes

    def need(self, permission: str) -> None:
        """Raise `Denied` unless he has the permission."""
        if not self.may(permission):
            words = "any that lets it run something" if permission == STAGE else permission
            raise Denied(
                f"{self.name} lacks the permission {words}: ask for a key with it (lepton key create)",
                permission=permission,
            )

    def need_site(self, site: str) -> None:
        """Raise `Denied` unless he may be the agent of this Site."""
        if not self.sites & {site, "*"}:
            raise Denied(f"{self.name} is not an agent of site {site}", permission=f"site:agent:{site}")


class Door:
    """Turns a bearer token into a Caller."""

    def __init__(self, context: Context):
        self._context = context
        self._cache: dict[str, tuple[float, Caller]] = {}
        self._lock = threading.Lock()
        self._own = (
            (context.local_token, replace(_caller("local", ("*",)), here=True)),
            (context.agent_token, _caller("agent:home", ("site:agent:home",))),
        )

    def at_once(self, header: str | None) -> Caller | None:
        """Return who it is where that needs no look into the catalog, else None. Raises `Unauthenticated`."""
        token = _bearer(header)
        for known, caller in self._own:
            if _same(token, known):
                return caller
        with self._lock:
            seen = self._cache.get(token)
        return seen[1] if seen is not None and time.monotonic() - seen[0] < _CACHE_SECONDS else None

    def enter(self, header: str | None) -> Caller:
        """Return who it is. Raises `Unauthenticated`."""
        found = self.at_once(header)
        if found is not None:
            return found
        token = _bearer(header)
        return self._run(token) if token.startswith("lrt_") else self._key(token)

    def _run(self, token: str) -> Caller:
        id, _, secret = token.removeprefix("lrt_").partition("~")
        if not id.isascii() or not id.replace("_", "").isalnum():
            raise Unauthenticated("that is not the token of a run")
        try:
            run = self._context.catalog.get(Run, id)
        except NotFound:
            run = None
        if run is None or run.token is None or not _same(run.token, digest(secret)):
            raise Unauthenticated("the token of this run is no longer valid: another attempt has the run")
        # A Run that has ended may still be told how it ended, should the first answer have been lost.
        return Caller(f"run:{run.id}", RUN_MAY if not run.state.ended else frozenset({REPORT}), run)

    def _key(self, token: str) -> Caller:
        kid = parse_token(token).kid
        try:
            record = self._context.catalog.get(Key, kid)
        except NotFound:
            raise Unauthenticated(_UNKNOWN) from None
        if not self._context.keyfile.matches("api-key", token, record.digest):
            raise Unauthenticated(_UNKNOWN)
        if record.revoked is not None:
            raise Unauthenticated(f"the key {record.name!r} was revoked")
        if record.expires is not None and record.expires <= utcnow():
            raise Unauthenticated(f"the key {record.name!r} expired at {record.expires:%Y-%m-%d %H:%M} UTC")
        if not record.check:
            self._complete(record, token)
        caller = _caller(record.name, record.scopes)
        with self._lock:
            if len(self._cache) > 10_000:
                self._cache.clear()
            self._cache[token] = (time.monotonic(), caller)
        return caller

    def _complete(self, record: Key, token: str) -> None:
        """Add the digest that Sites are told to a key that was made before they were."""
        with contextlib.suppress(Conflict):  # somebody else does it, or revokes it
            self._context.catalog.change(record.model_copy(update={"check": check_of(token)}))
        self._context.callers.changed()


def _bearer(header: str | None) -> str:
    kind, _, token = (header or "").partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token:
        raise Unauthenticated("a key is needed: send the header 'Authorization: Bearer KEY' (see lepton login)")
    return token


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _caller(name: str, scopes: tuple[str, ...]) -> Caller:
    return Caller(name, spread(scopes), sites=sites(scopes))


def make_key(context: Context, name: str, scopes: tuple[str, ...], by: str, **fields: object) -> tuple[Key, str]:
    """Make a key record, not yet in the catalog, and its secret, which is kept nowhere."""
    blank = Key.new(name=name, digest="", scopes=scopes, by=by, **fields)
    secret = new_token(blank.id).text
    digests = {"digest": context.keyfile.digest("api-key", secret), "check": check_of(secret)}
    return blank.model_copy(update=digests), secret
