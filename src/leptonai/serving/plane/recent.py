"""Some of the requests are looked at: kept for a while to be tried on another version, and handed on for the prediction log.

Most are not, and cost a countdown and a few comparisons (see `Pending` in `serving.plane.front`). What is kept is bounded in
number and in bytes; what does not fit is counted and forgotten. Nothing waits for whoever reads it.
"""

import math
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from leptonai.serving import seen
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.outputs import Part
from leptonai.serving.seen import Seen

if TYPE_CHECKING:
    from leptonai.serving.plane.access import AccessLog
    from leptonai.serving.plane.router import Route
    from leptonai.serving.plane.traces import Traces

LOG_SHARE = 0.01  # of the requests, where nobody said otherwise
EVERY_SECONDS = 0.05  # at most so often a request of one service is kept to be tried again …
ALL_SECONDS = 0.01  # … and of all that are called, together: to keep one costs as much as a small model takes
KEPT = 256  # requests of one service
KEPT_BYTES = 4 * 2**20  # of one service
ALL_BYTES = 64 * 2**20  # of all services of a process
ROWS = 64  # of one request
ENTRY_BYTES = 2**20
LOG_BYTES = 16 * 2**20  # that wait until the agent fetches them
NEVER = 1 << 60


class Sight(NamedTuple):
    """A request that was answered, as whoever looks at it sees it; over HTTP or gRPC."""

    id: bytes
    method: bytes
    path: bytes
    headers: Mapping[bytes, bytes]
    size: int  # of its body, bytes
    sent: int  # of the answer's
    status: int
    route: "Route"
    inputs: Mapping[str, Any]
    item: Item
    start: float  # when it had arrived, of `time.perf_counter`
    encoded: float  # when its answer was ready


class Watcher(Protocol):
    """What else looks at requests: the access log, or traces."""

    @property
    def share(self) -> float:
        """Which share of the requests, drawn at random, it is shown."""

    def look(self, sight: Sight, reached: bool) -> None:
        """Take one request that was answered. `reached`: it is one of the share."""


class Tap:
    """Decides which requests of one service, in this process, are looked at. Used on the event loop only."""

    __slots__ = ("_bytes", "_gaps", "_shares", "_step", "_watch", "due", "every", "left", "recent", "service")

    def __init__(self, service: str, watch: "Watch"):
        self.service = service
        self.recent: deque[Seen] = deque()
        self.due = 0.0  # from when on, of `time.perf_counter`, the next request is kept to be tried again
        self.left = NEVER  # requests until one is looked at for another reason
        self.every = False  # whether those that fail, or come with a trace, are looked at whatever is left
        self._watch = watch
        self._bytes = 0
        self._shares: tuple[float, ...] = ()
        self._gaps: list[int] = []
        self._step = NEVER

    def tune(self, *shares: float, every: bool) -> None:
        """Look at these shares of the requests: for the prediction log, the access log, and traces."""
        if (shares, every) == (self._shares, self.every):
            return
        self._shares, self.every = shares, every
        self._gaps = [gap(share) for share in shares]
        self._step = self.left = min(self._gaps)

    def look(self, sight: Sight) -> None:
        """Look at a request that was answered."""
        logged, *others = self._reached()
        kept = sight.encoded >= self.due
        if kept or logged:
            found = self._seen(sight)
            if kept:
                self.due = sight.encoded + max(EVERY_SECONDS, ALL_SECONDS * self._watch.keepers)
                self._keep(found)
            if logged:
                self._watch.log(found)
        for watcher, reached in zip(self._watch.others, others, strict=True):
            watcher.look(sight, reached)

    def _reached(self) -> list[bool]:
        """Say for each reason whether it is this request's turn, and draw after how many the next is."""
        if self.left > 0:
            return [False] * len(self._gaps)
        found = []
        for place, share in enumerate(self._shares):
            left = self._gaps[place] - self._step
            found.append(left <= 0)
            self._gaps[place] = left if left > 0 else gap(share)
        self._step = self.left = min(self._gaps)
        return found

    def _seen(self, sight: Sight) -> Seen:
        route, item = sight.route, sight.item
        rows = min(ROWS, max(1, item.rows * ENTRY_BYTES // max(1, sight.size)))  # few of a large body
        return Seen(
            service=self.service,
            time=time.time(),
            id=sight.id.decode("latin-1"),
            model=route.replica.model.id,
            version=route.version,
            variant=route.variant,
            status=sight.status,
            seconds=sight.encoded - sight.start,
            rows=item.rows,
            key=self._watch.who(sight.headers.get(b"authorization")),
            inputs=seen.copied(sight.inputs, rows),
            outputs=seen.copied(item.outcome, rows) if isinstance(item.outcome, Part) else {},
        )

    def _keep(self, entry: Seen) -> None:
        size = entry.bytes
        if size > ENTRY_BYTES or entry.status != 200:
            return
        kept, before = self.recent, bool(self.recent)
        while kept and (len(kept) >= KEPT or self._bytes + size > KEPT_BYTES):
            gone = kept.popleft().bytes
            self._bytes -= gone
            self._watch.held -= gone
        if self._watch.held + size <= ALL_BYTES:
            kept.append(entry)
            self._bytes += size
            self._watch.held += size
        self._watch.keepers += bool(kept) - before

    def forget(self) -> None:
        """Forget what was kept."""
        self._watch.held -= self._bytes
        self._watch.keepers -= bool(self.recent)
        self._bytes = 0
        self.recent.clear()


class Keyring(Protocol):
    """Says whose key a request came with."""

    def who(self, header: bytes | None) -> str:
        """Return the name of the key in an ``Authorization`` header, "-" where there is none."""


class Watch:
    """What is looked at in this process. Used on the event loop only."""

    def __init__(self, keys: Keyring):
        self.who = keys.who
        self.access: AccessLog | None = None
        self.others: list[Watcher] = []
        self.held = 0  # bytes of all that is kept
        self.keepers = 0  # services of which anything is kept
        self.dropped = 0  # entries of the prediction log that did not fit
        self.logged = 0
        self._taps: dict[str, Tap] = {}
        self._log: deque[Seen] = deque()
        self._log_bytes = 0
        self._shares: Mapping[str, float] = {}

    def tap(self, service: str) -> Tap:
        """Return the tap of a service, which stays while the versions behind it change."""
        found = self._taps.get(service)
        if found is None:
            found = self._taps[service] = Tap(service, self)
            self._tune(found)
        return found

    def only(self, services: Iterable[str]) -> None:
        """Forget the services that are not there any more."""
        for service in self._taps.keys() - set(services):
            self._taps.pop(service).forget()

    def tell(self, shares: Mapping[str, float]) -> None:
        """Take which share of each service's requests the prediction log wants."""
        self._shares = shares
        for tap in self._taps.values():
            self._tune(tap)

    def also(self, access: "AccessLog | None", traces: "Traces | None") -> None:
        """Show requests to the access log and to traces too: a share, and all that failed or came with a trace."""
        self.access = access
        self.others = [watcher for watcher in (access, traces) if watcher is not None]
        for tap in self._taps.values():
            self._tune(tap)

    def _tune(self, tap: Tap) -> None:
        more = (watcher.share for watcher in self.others)
        tap.tune(self._shares.get(tap.service, LOG_SHARE), *more, every=bool(self.others))

    def log(self, entry: Seen) -> None:
        """Hold an entry of the prediction log until the agent fetches it; one that does not fit is counted."""
        size = entry.bytes
        if self._log_bytes + size > LOG_BYTES:
            self.dropped += 1
            return
        self._log.append(entry)
        self._log_bytes += size

    def drain(self) -> list[Seen]:
        """Return what there is for the prediction log, and forget it."""
        found, self._log, self._log_bytes = list(self._log), deque(), 0
        self.logged += len(found)
        return found

    def recent(self, service: str, limit: int = KEPT) -> list[Seen]:
        """Return the last requests of a service that were kept, newest last."""
        tap = self._taps.get(service)
        return [] if tap is None else list(tap.recent)[-limit:]


def gap(share: float) -> int:
    """Return after how many requests the next one of a share is, each drawn by itself: a geometric distribution."""
    if share >= 1:
        return 1
    if share <= 0:
        return NEVER
    return 1 + int(math.log(1 - random.random()) / math.log1p(-share))  # noqa: S311  (no secret hangs on it)
