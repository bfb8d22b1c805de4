"""What serving processes died of, and how often: a model that was computed whenever one crashed is not served any longer."""

import time
from collections import deque
from collections.abc import Callable, Sequence

CRASHES = 3
WITHIN_SECONDS = 60.0
RECENT_SECONDS = 60.0  # deaths that make the next start wait


class Crashes:
    """The last crashes. A process that somebody killed did not crash."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._last: deque[tuple[float, frozenset[str]]] = deque(maxlen=CRASHES)

    def note(self, computing: Sequence[str]) -> str | None:
        """Take a crash into account, while which these models were computed; return the one that is at fault, if it is clear."""
        now = self._clock()
        self._last.append((now, frozenset(computing)))
        if len(self._last) < CRASHES or now - self._last[0][0] > WITHIN_SECONDS:
            return None
        always = frozenset.intersection(*(ids for _, ids in self._last))
        if len(always) != 1:
            return None
        self._last.clear()
        return next(iter(always))


class Deaths:
    """Processes that died, which make the next start wait: a little when a few did, ever longer when many did of late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._clock = clock
        self._recent: list[float] = []

    def note(self, buried: int) -> float:
        """Note that so many died now; return the seconds to wait before they are started again."""
        now = self._clock()
        self.count += buried
        self._recent = [when for when in self._recent if now - when < RECENT_SECONDS] + [now] * buried
        many = len(self._recent)
        return min(0.01 * 2 ** min(many, 7), 1.0) if many > 3 else 0.0
