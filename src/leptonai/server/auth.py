"""Who calls, and what he may do: API keys, this machine's own token, the agent's, and the tokens of Runs."""

import hmac
import threading
import time
from dataclasses import dataclass

from leptonai.core.errors import Denied, NotFound, Unauthenticated
from leptonai.core.nouns import Blob, Key, Run, utcnow
from leptonai.runs.queue import digest
from leptonai.server.context import Context
from leptonai.server.keys import new_token, parse_token

# What a scope brings beside itself.
_IMPLIED = {
    "*": frozenset({"*"}),
    "site:agent": frozenset(
        {"run:report", "run:read", "blob:read", "blob:write", "model:read", "dataset:read", "site:read"}
    ),
}
_RUN_MAY = frozenset({"run:report", "run:read", "blob:read", "blob:write", "dataset:read", "me"})
_CACHE_SECONDS = 0.5  # a revoked key fails within this


@dataclass(frozen=True)
class Caller:
    """Somebody who proved who he is."""

    name: str
    scopes: frozenset[str]
    run: Run | None = None  # set for the process of a Run: then it may touch only what the Run names

    @property
    def owner(self) -> str:
        """Whose blobs he writes."""
        return self.run.id if self.run is not None else self.name

    def need(self, permission: str) -> None:
        """Raise `Denied` unless he has the permission."""
        if permission != "me" and not self.scopes & {permission, "*"}:
            raise Denied(f"{self.name} lacks the permission {permission}: ask for a key with it (lepton key create)")

    def may_report(self, id: str) -> None:
        """Raise `Denied` unless he may write to this Run."""
        if self.run is not None and self.run.id != id:
            raise Denied(f"the token of run {self.run.id} does not open run {id[:64]}")

    def may_see(self, id: str) -> None:
        """Raise `Denied` unless he may read this Run: a Run's process sees itself and the Runs that its spec names."""
        if self.run is not None and id != self.run.id and id not in self.run.spec.values():
            raise Denied(f"the token of run {self.run.id} does not open run {id[:64]}")

    def may_read(self, blob: str, record: Blob | None) -> None:
        """Raise `Denied` unless he may read this blob: a Run's process reads what its spec names, and what it wrote."""
        if self.run is None:
            return
        saved = (self.run.checkpoint or {}).values()
        if blob not in self.run.opens and blob not in saved and (record is None or record.owner != self.run.id):
            raise Denied(f"the token of run {self.run.id} does not open blob {blob[:64]}")


class Door:
    """Turns a bearer token into a Caller."""

    def __init__(self, context: Context):
        self._context = context
        self._cache: dict[str, tuple[float, Caller]] = {}
        self._lock = threading.Lock()

    def enter(self, header: str | None) -> Caller:
        """Return who it is. Raises `Unauthenticated`."""
        kind, _, token = (header or "").partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise Unauthenticated("a key is needed: send the header 'Authorization: Bearer KEY' (see lepton login)")
        if hmac.compare_digest(token.encode(), self._context.local_token.encode()):
            return Caller("local", frozenset({"*"}))
        if hmac.compare_digest(token.encode(), self._context.agent_token.encode()):
            return Caller("agent:home", _scopes(("site:agent",)))
        if token.startswith("lrt_"):
            return self._run(token)
        return self._key(token)

    def _run(self, token: str) -> Caller:
        id, _, secret = token.removeprefix("lrt_").partition("~")
        try:
            run = self._context.catalog.get(Run, id)
        except NotFound:
            run = None
        if run is None or run.token is None or not hmac.compare_digest(run.token, digest(secret)):
            raise Unauthenticated("the token of this run is no longer valid: another attempt has the run")
        # A Run that has ended may still be told how it ended, should the first answer have been lost.
        return Caller(f"run:{run.id}", _RUN_MAY if not run.state.ended else frozenset({"run:report"}), run)

    def _key(self, token: str) -> Caller:
        with self._lock:
            seen = self._cache.get(token)
        if seen is not None and time.monotonic() - seen[0] < _CACHE_SECONDS:
            return seen[1]
        kid = parse_token(token).kid
        try:
            record = self._context.catalog.get(Key, kid)
        except NotFound:
            raise Unauthenticated("the key is not known here: was it made on another server?") from None
        if not self._context.keyfile.matches("api-key", token, record.digest):
            raise Unauthenticated("the key is not known here: was it made on another server?")
        if record.revoked is not None:
            raise Unauthenticated(f"the key {record.name!r} was revoked")
        if record.expires is not None and record.expires <= utcnow():
            raise Unauthenticated(f"the key {record.name!r} expired at {record.expires:%Y-%m-%d %H:%M} UTC")
        caller = Caller(record.name, _scopes(record.scopes))
        with self._lock:
            if len(self._cache) > 10_000:
                self._cache.clear()
            self._cache[token] = (time.monotonic(), caller)
        return caller


def _scopes(given: tuple[str, ...]) -> frozenset[str]:
    return frozenset(given).union(*(_IMPLIED.get(scope, frozenset()) for scope in given))


def make_key(context: Context, name: str, scopes: tuple[str, ...], by: str, **fields: object) -> tuple[Key, str]:
    """Make a key record, not yet in the catalog, and its secret, which is kept nowhere."""
    blank = Key.new(name=name, digest="", scopes=scopes, by=by, **fields)
    secret = new_token(blank.id).text
    return blank.model_copy(update={"digest": context.keyfile.digest("api-key", secret)}), secret
