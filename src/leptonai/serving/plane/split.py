"""Which of several versions gets a request, and what the others are asked beside it.

Three things keep a new version from hurting anybody. What it cannot answer, or not in time, the stable version answers: the
caller sees that one's answer, and the failure is counted. A shadow, or a canary whose answers are compared, computes a copy
after the caller has got his answer, a few at a time. And a caller who is known keeps his variant while its share grows.
"""

import random
import time
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from leptonai.core.errors import LeptonError
from leptonai.serving.plane.alike import Spread, alike
from leptonai.serving.plane.batcher import Item
from leptonai.serving.table import Line
from leptonai.serving.tally import Of, Tallies, Tally

if TYPE_CHECKING:
    from leptonai.serving.plane.router import Route

COPIES = 8  # that wait or are computed at once, of a service in one process
COPY_SECONDS = 10.0
PATIENCE_SECONDS = 5.0  # how long a canary may take before the stable version is asked instead
IDS = 65536  # requests whose value was told, so that none counts twice

_WHOLE = 2.0**64


class Asker(Protocol):
    """A request, whichever way it came."""

    pinned: str | None  # the variant that could not answer it, as the stable version is to do
    start: float

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """What its caller said of it."""

    def identify(self) -> bytes:
        """Return its id."""


class Taker(Protocol):
    """What takes a request, once more."""

    def handle(self, call: Any) -> None:
        """Answer it."""


class Said(Protocol):
    """An answer."""

    @property
    def status(self) -> int:
        """Its status, as HTTP counts."""


class Split:
    """The variants of one service. Used on the event loop only."""

    def __init__(self, line: Line, tallies: Tallies):
        self.line = line
        self.tallies = {
            share.variant: tallies.of(Of(line.service, line.salt, line.step, share.variant)) for share in line.variants
        }
        self._sticky = {"": None, "key": b"authorization"}.get(line.sticky, line.sticky.lower().encode("latin-1"))
        self._salt = f"{line.service}|{line.salt}".encode()[:64]
        self._routes: dict[str, Route] = {}
        self._limits: list[tuple[float, Route]] = []
        self._beside: Route | None = None  # that computes copies
        self._share = 0.0  # of the requests
        self._next = 0.0  # when a copy may be made again
        self._copies = 0
        self._spread = Spread()
        self._told: dict[str, None] = {}

    def install(self, routes: Mapping[str, "Route"]) -> None:
        """Take the routes of the variants, by name, which in turn know this split."""
        self._routes = dict(routes)
        self._limits, limit = [], 0.0
        for share in self.line.variants:
            if share.variant == "canary" and share.percent:
                limit += share.percent
                self._limits.append((limit, routes["canary"]))
            if share.variant == "shadow" or (share.variant == "canary" and self.line.compare and not self._beside):
                self._beside = routes[share.variant]
                self._share = share.percent / 100 if share.variant == "shadow" else 1.0

    @property
    def routes(self) -> list["Route"]:
        """The routes of all variants, the stable one first."""
        return list(self._routes.values())

    # ------------------------------------------------------------------------------------------ who gets what

    def pick(self, call: "Asker | None", version: str | None = None) -> "Route":
        """Return the route that a request goes to. Who names a version gets it."""
        if call is not None and call.pinned is not None:
            return self._routes["stable"]
        if version is not None:
            return next((r for r in self._routes.values() if r.version == version), self._routes["stable"])
        if self._limits:
            place = self._place(call)
            for limit, route in self._limits:
                if place < limit:
                    return route
        return self._routes["stable"]

    def _place(self, call: "Asker | None") -> float:
        """Return where a request stands between 0 and 100: for one caller always at the same place."""
        if call is not None:
            who = None if self._sticky is None else call.headers.get(self._sticky)
            if who is None and self.line.test:
                who = call.identify()
            if who is not None:
                return self._dealt(who)
        return random.random() * 100  # noqa: S311  (who is dealt what is no secret)

    def _dealt(self, who: bytes) -> float:
        return int.from_bytes(blake2b(who, digest_size=8, key=self._salt).digest(), "big") / _WHOLE * 100

    def patience(self, route: "Route", seconds: float | None) -> float | None:
        """Return how long a request may take at a route: a canary's time is short, since another one can answer."""
        if route.variant != "canary":
            return seconds
        return PATIENCE_SECONDS if seconds is None else min(seconds / 2, PATIENCE_SECONDS)

    # ------------------------------------------------------------------------------------- what came of it

    def take(self, front: Taker, call: Asker, route: "Route", answer: Said) -> bool:
        """Count an answer; return whether it is not to be sent, as the stable version is asked for another one."""
        if call.pinned is None and route.variant == "canary" and answer.status >= 400:
            route.series.count(answer.status)
            call.pinned = route.variant
            front.handle(call)
            return True
        self.ended(call, route, answer.status)
        return False

    def ended(self, call: Asker, route: "Route", status: int) -> None:
        """Count an answer that was sent, or one in pieces that came to its end: once it was begun no other version can give it."""
        if 400 <= status < 500:  # what the caller did wrong, or that he hung up, no version is blamed for
            return
        seconds = time.perf_counter() - call.start
        if call.pinned is not None:  # the stable version answered where that one failed
            self._count(call.pinned, seconds, failed=True)
        else:
            self._count(route.variant, seconds, failed=status >= 500)

    def _count(self, variant: str, seconds: float, *, failed: bool) -> None:
        tally = self.tallies.get(variant)
        if tally is not None:
            tally.count(seconds, failed)

    def copy(self, route: "Route", inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Have the other version compute what the stable one has answered, and compare; when there is time for it."""
        beside = self._beside
        if beside is None or route.variant != "stable" or self._copies >= COPIES:
            return
        if beside.variant == "shadow":
            if random.random() >= self._share:  # noqa: S311
                return
        else:
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + 1 / self.line.compare
        tally = self.tallies[beside.variant]

        def then(item: Item) -> None:
            self._copies -= 1
            beside.replica.release()
            self._compared(tally, beside, item, outputs)

        beside.replica.hold()
        self._copies += 1
        try:
            beside.replica.submit(inputs, then, COPY_SECONDS)
        except (LeptonError, ValueError, KeyError):
            self._copies -= 1
            beside.replica.release()

    def _compared(self, tally: Tally, beside: "Route", item: Item, wanted: Mapping[str, Any]) -> None:
        found = item.outcome
        fine = isinstance(found, Mapping)
        if beside.variant == "shadow":
            tally.count(item.done - item.queued, failed=not fine)
        share = 0.0
        if isinstance(found, Mapping):
            try:
                share = alike(beside.replica.model.signature, wanted, found, self._spread)
            except (TypeError, ValueError):  # answers of another kind
                share = 0.0
        tally.compare(share)

    # -------------------------------------------------------------------------------------------- what it is worth

    def tell(self, call: Asker, request: str, value: float) -> str | None:
        """Count what a caller says an answer was worth, from 0 to 1; return the variant, or None when it was told before."""
        if request in self._told:
            return None
        if len(self._told) >= IDS:
            self._told.pop(next(iter(self._told)))
        self._told[request] = None
        who = None if self._sticky is None else call.headers.get(self._sticky)
        place = self._dealt(request.encode("latin-1", "replace") if who is None else who)
        variant = next((route.variant for limit, route in self._limits if place < limit), "stable")
        self.tallies[variant].tell(value)
        return variant
