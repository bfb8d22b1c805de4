"""What serving processes died of: a model that was computed whenever one crashed is not served any longer."""

import time
from collections import deque
from collections.abc import Callable, Sequence

CRASHES = 3
WITHIN_SECONDS = 60.0


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
