"""Which Models stay in memory when not all fit: those that were used last, and those that are pinned.

Pure bookkeeping: it says what has to go before something comes, and whoever asked does that. Times are of one monotonic clock.
"""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from leptonai.core.errors import Invalid
from leptonai.serving.pinning import GUESS


class Full(Invalid):
    """What must stay in memory leaves no room for another model."""


class Budget(NamedTuple):
    """How much may be in memory at once. None: no limit."""

    bytes: int | None = None  # of all processes together
    models: int | None = None


class Cache:
    """What is in memory, from what was used least recently to what was used last. Used under its owner's lock."""

    def __init__(self, budget: Budget, costs: Mapping[str, int] | None = None):
        """`costs`: what models were measured to take before, in bytes."""
        self.budget = budget
        self.costs = dict(costs or {})
        self._used: dict[str, float] = {}  # in the order of last use

    @property
    def ids(self) -> list[str]:
        """What is in memory, least recently used first."""
        return list(self._used)

    @property
    def bytes(self) -> int:
        """What all of it takes."""
        return sum(self.costs.get(id, 0) for id in self._used)

    def spare(self) -> int | None:
        """Return how many bytes of the budget are not taken; None without a limit. From any thread."""
        most = self.budget.bytes
        return None if most is None else max(0, most - sum(self.costs.get(id, 0) for id in tuple(self._used)))

    def __contains__(self, id: object) -> bool:
        return id in self._used

    def add(self, id: str, now: float, cost: int) -> None:
        """Note that a model is in memory now, and what it takes: the most that was ever measured counts."""
        self.costs[id] = max(cost, self.costs.get(id, 0))
        self._used.pop(id, None)
        self._used[id] = now

    def cost(self, id: str, size: int, many: int) -> int:
        """Return what a model takes in so many processes, or is thought to. `size`: of its files, in bytes."""
        return self.costs.get(id, int(GUESS * size * many))

    def begin(self, ids: Iterable[str], cost: Callable[[str], int], now: float) -> None:
        """Fill an empty memory, with the most wanted first, as far as there is room."""
        for id in ids:
            if id not in self:
                with contextlib.suppress(Full):
                    if not self.room(cost(id), keep=self.ids):
                        self.add(id, now, cost(id))
        self.touch(reversed(self.ids), now)  # the most wanted is the last to leave

    def touch(self, ids: Iterable[str], now: float) -> None:
        """Note that models were used just now; of others nothing is noted."""
        for id in ids:
            if self._used.pop(id, None) is not None:
                self._used[id] = now

    def drop(self, id: str) -> None:
        """Note that a model is in memory no more."""
        self._used.pop(id, None)

    def since(self, id: str) -> float:
        """Return when a model was used last."""
        return self._used[id]

    def older(self, when: float) -> list[str]:
        """Return what was used last before that time, least recently used first."""
        return list(itertools.takewhile(lambda id: self._used[id] < when, self._used))

    def room(self, cost: int, models: int = 1, keep: Collection[str] = ()) -> list[str]:
        """Return what has to go so that `models` more with `cost` bytes fit: what was used least recently, nothing of `keep`.

        A model that is larger than the budget is let in when nothing else is left. Raises `Full` when what is kept leaves too
        little room.
        """
        going: list[str] = []
        count, size = len(self._used), self.bytes
        for id in [id for id in self._used if id not in keep]:
            if self._fits(count + models, size + cost):
                return going
            going.append(id)
            count, size = count - 1, size - self.costs.get(id, 0)
        if self._fits(count + models, size + cost) or count == 0:
            return going
        raise Full(
            f"the models that must stay in memory ({count} with {size} bytes) leave no room for another within the budget: "
            "raise model_memory or models_resident, or pin fewer"
        )

    def _fits(self, count: int, size: int) -> bool:
        most = self.budget
        return (most.bytes is None or size <= most.bytes) and (most.models is None or count <= most.models)
