"""Which keys may call what here. The agent says so; a request is looked up in memory, the server is not asked.

The plane is told the SHA-256 of each key, never a key: a key is 32 random bytes, so nobody finds it from that. To look one up
takes the same time however much of a wrong one is right, since what is compared is its digest.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from leptonai.core.errors import Denied, LeptonError, Unauthenticated

NOBODY = "-"  # who calls a public service without a key that is known; no key can be called that
LONGEST = 512  # bytes of a header that is looked at
REMEMBERED = 4096  # headers whose key was found; the table itself has no limit

_NEEDED = "a key is needed: send the header 'Authorization: Bearer KEY', with a key that has the scope service:predict"
_UNKNOWN = "the key opens nothing here: it was revoked, lacks the scope service:predict, or is of another server"


class Entry(NamedTuple):
    """One key: whose it is, what it may call (None: everything), and when it ends, in seconds of the wall clock."""

    name: str
    services: frozenset[str] | None
    expires: float | None
    metrics: bool = False  # whether it may read the metrics
    manages: bool = False  # whether it may load services and unload them


class Keys:
    """The table of keys. Used on the event loop only."""

    def __init__(self) -> None:
        self._table: dict[bytes, Entry] = {}
        self._seen: dict[bytes, Entry] = {}  # Authorization header -> its key, so that few requests cost a digest

    def update(self, table: Iterable[Sequence[Any]]) -> None:
        """Take a new table: lines of [SHA-256 in hex, name, services or ["*"], end or null, whether it may read the metrics,
        whether it may load and unload]; no other key passes from now on.

        Raises `LeptonError`, and changes nothing, when a line is not like that.
        """
        try:
            found = dict(_line(*line) for line in table)
        except (TypeError, ValueError) as error:
            raise LeptonError(f"the table of keys cannot be read, so the last one holds: {error}") from error
        self._table, self._seen = found, {}

    def check(self, header: bytes | None, service: str, public: bool = False) -> str:
        """Return the name of the key in an ``Authorization`` header that may call the service; `NOBODY` for a public one
        that is called without. Raises `Unauthenticated` without a valid key, `Denied` when it is for other services.

        Ask this before it is said whether there is such a service, so that who may not call it learns nothing of it.
        """
        entry = None if header is None else self._seen.get(header) or self._look_up(header)
        if entry is not None and (entry.expires is None or time.time() < entry.expires):
            if public or entry.services is None or service in entry.services:
                return entry.name
            raise Denied(
                f"the key {entry.name!r} may not call service {service[:120]!r}: make one with the scope "
                f"service:predict:{service[:120]}, or service:predict for all",
                permission=f"service:predict:{service[:120]}",
            )
        if public:
            return NOBODY
        if entry is not None and entry.expires is not None:
            when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.expires))
            raise Unauthenticated(f"the key {entry.name!r} expired at {when} UTC: ask for a new one")
        raise Unauthenticated(_UNKNOWN if header is not None and _token(header) is not None else _NEEDED)

    def may(self, header: bytes | None, service: str, public: bool = False) -> bool:
        """Return whether the key in a header may call a service."""
        try:
            self.check(header, service, public)
        except (Denied, Unauthenticated):
            return False
        return True

    def manage(self, header: bytes | None, service: str) -> None:
        """Raise as `check` does unless the key in a header may load and unload a service; no service is public for that."""
        name = self.check(header, service)
        entry = None if header is None else self._look_up(header)
        if entry is None or not entry.manages:
            raise Denied(
                f"the key {name!r} may call service {service[:120]!r}, but not load or unload it: make one with the scope "
                "service:write",
                permission="service:write",
            )

    def ends(self, header: bytes | None) -> float | None:
        """Return when the key of a header that was checked ends, in seconds of the wall clock; None: never, or there is none."""
        entry = None if header is None else self._seen.get(header)
        return None if entry is None else entry.expires

    def check_metrics(self, header: bytes | None) -> None:
        """Raise `Unauthenticated` or `Denied` unless the key in a header may read the metrics."""
        entry = None if header is None else self._look_up(header)
        if entry is None or (entry.expires is not None and time.time() >= entry.expires):
            raise Unauthenticated(
                "a key is needed: send the header 'Authorization: Bearer KEY', with the scope metrics:read"
            )
        if not entry.metrics:
            raise Denied(
                f"the key {entry.name!r} may not read the metrics: make one with the scope metrics:read",
                permission="metrics:read",
            )

    def who(self, header: bytes | None) -> str:
        """Return the name of the key in a header that was checked; `NOBODY` where there is none."""
        entry = None if header is None else self._seen.get(header) or self._look_up(header)
        return NOBODY if entry is None else entry.name

    def _look_up(self, header: bytes) -> Entry | None:
        token = _token(header)
        if token is None:
            return None
        entry = self._table.get(hashlib.sha256(token).digest())
        if entry is not None:  # nothing wrong is remembered: strangers cannot fill this
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[header] = entry
        return entry


def _line(
    check: str, name: str, services: Sequence[str], ends: float | None, metrics: bool = False, manages: bool = False
) -> tuple[bytes, Entry]:
    digest = bytes.fromhex(check)
    if len(digest) != hashlib.sha256().digest_size or isinstance(services, str):
        raise ValueError(f"the line of {name!r} is not one")
    may = None if "*" in services else frozenset(services)
    return digest, Entry(str(name), may, None if ends is None else float(ends), metrics is True, manages is True)


def _token(header: bytes) -> bytes | None:
    """Return the token of an ``Authorization: Bearer TOKEN`` header, whose scheme is in any case (RFC 9110, RFC 6750)."""
    kind, _, token = header.strip(b" \t").partition(b" ")
    token = token.strip(b" \t")
    if kind.lower() != b"bearer" or not token or len(header) > LONGEST or any(space in token for space in b" \t,"):
        return None
    return token
