"""How many replicas of a version there should be, by what was seen of its queue: pure decisions, each with its reason.

Up fast: what waits too long is seen within half a second, and the number grows by one, or doubles where it waits twice as
long as it may. Down slowly: one at a time, and only when those that are left had been enough for a while. A load that stays the
same ends up with a number that stays: going down and having to come back makes the next try come ever later.
"""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from leptonai.core.replicas import Replicas
from leptonai.serving.tally import BOUNDS

LATE_SECONDS = 0.4  # for which requests must have waited too long before there is another replica
SETTLE_SECONDS = 1.0  # after the replicas that were asked for are there: what they change is to be seen first
STREAMS = 8  # answers in pieces that one replica makes at once, before another one is wanted
SPARE = 0.6  # the share of their time that those that are left may be busy when one goes
LONGEST = 16  # times `down_seconds`: the longest that one waits before it is tried again with fewer


class Sight(NamedTuple):
    """What was seen of a version lately."""

    ready: int  # replicas that can compute
    busy: float  # how many of them computed, on average
    wait: float  # seconds: nine in ten requests waited no longer, those that wait now among them
    waiting: int = 0  # requests that wait now
    streams: int = 0  # answers in pieces that are being made


class Room(NamedTuple):
    """How many replicas this machine lets there be, and what forbids more, such as "memory has room for no more"."""

    most: int
    why: str = ""


class Plan(NamedTuple):
    """How many there should be; `why` says in words why that is another number than before, "" where it is the same."""

    wanted: int
    why: str = ""


class Scaling:
    """The state of one version's scaling. Times are seconds of one clock that only grows."""

    def __init__(self, asked: Replicas, wanted: int, now: float):
        """`wanted`: how many there are, or are being started."""
        self.asked = asked
        self.wanted = wanted
        self.stuck = ""  # why there are no more although requests wait too long
        self._late: float | None = None  # since when requests wait too long
        self._calm = now  # since when fewer had been enough
        self._settled: float | None = None  # when all that were asked for were there
        self._patience = asked.down_seconds
        self._down = float("-inf")  # when one went last

    def ask(self, asked: Replicas, now: float) -> None:
        """Take another range or aim."""
        if asked != self.asked:
            self.asked, self._patience, self._calm, self._late = asked, asked.down_seconds, now, None

    def look(self, now: float, seen: Sight, room: Room) -> Plan:
        """Return how many there should be now."""
        asked, wanted = self.asked, self.wanted
        self.stuck = ""
        if wanted < asked.min:
            return self._to(asked.min, now, f"there are to be {asked.min} at least")
        if wanted > asked.max:
            return self._to(asked.max, now, f"there may be {asked.max} at most")
        if seen.ready < wanted:
            self._late, self._settled = None, None
            self._calm = now
            return Plan(wanted)
        if self._settled is None:
            self._settled = now
        reason = self._too_much(seen)
        if reason:
            return self._more(now, seen, room, reason)
        self._late = None
        return self._fewer(now, seen)

    def _too_much(self, seen: Sight) -> str:
        """Say what shows that these replicas are too few; "" when nothing does."""
        aim = self.asked.wait_ms / 1e3
        if seen.wait > aim and (seen.busy >= SPARE * seen.ready or seen.waiting > seen.ready):
            return f"p90 wait {seen.wait * 1e3:.0f} ms over {self.asked.wait_ms:g} ms"
        if seen.streams > STREAMS * self.wanted:
            return f"{seen.streams} answers in pieces at once, over {STREAMS} for each"
        return ""

    def _more(self, now: float, seen: Sight, room: Room, reason: str) -> Plan:
        self._calm = now
        if self._late is None:
            self._late = now
        limit = max(self.wanted, min(self.asked.max, room.most))
        if limit == self.wanted:
            self.stuck = f"{reason}; {room.why}" if self.wanted < self.asked.max else reason
            return Plan(self.wanted)
        if self._settled is None or now - self._late < LATE_SECONDS or now - self._settled < SETTLE_SECONDS:
            return Plan(self.wanted)
        if now - self._down < 2 * self._patience:  # to go down was a mistake: the next time it is thought over longer
            self._patience = min(2 * self._patience, LONGEST * self.asked.down_seconds)
        far = seen.wait >= 2 * self.asked.wait_ms / 1e3 or seen.streams >= 2 * STREAMS * self.wanted
        return self._to(min(limit, 2 * self.wanted if far else self.wanted + 1), now, reason)

    def _fewer(self, now: float, seen: Sight) -> Plan:
        left = self.wanted - 1
        spare = seen.busy <= SPARE * left and seen.streams <= SPARE * STREAMS * left and not seen.waiting
        if left < self.asked.min or not spare or seen.wait > self.asked.wait_ms / 2e3:
            self._calm = now
            return Plan(self.wanted)
        if now - self._calm < self._patience:
            return Plan(self.wanted)
        if now - self._down > 4 * self._patience:  # what it was thought over longer for is long ago
            self._patience = max(self.asked.down_seconds, self._patience / 2)
        self._down = now
        for_ = f"{self.asked.down_seconds:g} s" if self._patience == self.asked.down_seconds else "a long while"
        return self._to(left, now, f"{left} would have been enough for {for_}: {seen.busy:.1f} were busy")

    def _to(self, wanted: int, now: float, why: str) -> Plan:
        before, self.wanted = self.wanted, wanted
        self._late, self._settled, self._calm = None, None, now
        return Plan(wanted, f"{before} -> {wanted} replica{'s' if wanted != 1 else ''}: {why}")


def merged(every: Sequence[Replicas]) -> Replicas | None:
    """Return what holds for a version that several services answer with: room for the one that asks for most."""
    if not every:
        return None
    return Replicas(
        min=max(one.min for one in every),
        max=max(one.max for one in every),
        wait_ms=min(one.wait_ms for one in every),
        down_seconds=max(one.down_seconds for one in every),
    )


def quantile(counts: Sequence[int], share: float) -> float:
    """Return the time that this share of waits were no longer than, by their counts between `tally.BOUNDS`; 0 without any."""
    total = sum(counts)
    below = 0
    for number, count in enumerate(counts):
        below += count
        if count and below >= ceil(share * total):
            return BOUNDS[min(number, len(BOUNDS) - 1)]
    return 0.0


def room(asked: int, there: int, cores: int, each: float, free: int | None, size: int) -> Room:
    """Return how many replicas fit.

    `asked`: what its owner lets there be; `there`: how many there are; `each`: cores that one which is busy was seen to
    use; `free`, `size`: bytes of memory that are free (None: any number), and that one takes. What waits more than it computes (`each` under
    a half) is not bounded by cores.
    """
    by_memory = there + (asked if free is None or size <= 0 else max(0, free // size))
    by_cores = max(1, int(cores / each + 0.25)) if each >= 0.5 else asked
    if by_memory < min(asked, by_cores):
        return Room(by_memory, f"memory has no room for another one of {size / 2**20:.0f} MiB")
    if by_cores < asked:
        return Room(by_cores, f"{cores} core{'s' if cores != 1 else ''} let no more than {by_cores} compute at once")
    return Room(asked)
