"""What is counted of each variant while a service moves from one version to another; the agent reads it on the board.

A tally is of one variant in one step of one rollout. It goes on in the next process of its slot, as metrics do.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

BOUNDS = tuple(5e-5 * 1.2**k for k in range(81))  # seconds: from 50 µs to 110 s, each a fifth more than the one before


class Of(NamedTuple):
    """What a tally is of."""

    service: str
    salt: str
    step: int
    variant: str


class Tally:
    """Counts of one variant."""

    __slots__ = ("agreed", "asked", "compared", "counts", "failed", "liked", "told")

    def __init__(self) -> None:
        self.asked = 0  # requests that were dealt to it
        self.failed = 0  # of them, those it could not answer
        self.counts = [0] * (len(BOUNDS) + 1)  # how long it took for the others
        self.compared = 0  # answers that were held against those of the stable version
        self.agreed = 0.0  # the sum of the shares of their rows that agreed
        self.told = 0  # answers that a caller said the value of
        self.liked = 0.0  # the sum of those values, each from 0 to 1

    def count(self, seconds: float, failed: bool) -> None:
        """Count one request."""
        self.asked += 1
        if failed:
            self.failed += 1
        else:
            self.counts[bisect_left(BOUNDS, seconds)] += 1

    def compare(self, share: float) -> None:
        """Count one comparison: the share of the rows that agreed."""
        self.compared += 1
        self.agreed += share

    def tell(self, value: float) -> None:
        """Count what a caller said."""
        self.told += 1
        self.liked += value

    def note(self) -> dict[str, Any]:
        """Return it as JSON data; of the times only where there are any."""
        last = max((i for i, count in enumerate(self.counts) if count), default=-1)
        first = next((i for i, count in enumerate(self.counts) if count), 0)
        said = {name: getattr(self, name) for name in self.__slots__ if name != "counts"}
        return {**said, "counts": [first, *self.counts[first : last + 1]]}

    def add(self, note: Mapping[str, Any]) -> None:
        """Add what another one noted."""
        for name in self.__slots__:
            if name != "counts":
                setattr(self, name, getattr(self, name) + note[name])
        first, *counts = note["counts"]
        for i, count in enumerate(counts, first):
            self.counts[i] += count


class Tallies:
    """The tallies of a process."""

    def __init__(self) -> None:
        self._every: dict[Of, Tally] = {}

    def of(self, what: Of) -> Tally:
        """Return a tally; it goes on where it was."""
        return self._every.setdefault(what, Tally())

    def keep(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Forget all but those of these rollouts: services and their salts."""
        known = set(wanted)
        self._every = {what: tally for what, tally in self._every.items() if (what.service, what.salt) in known}

    def get(self, what: Of) -> Tally:
        """Return a tally, or an empty one where nothing was counted."""
        return self._every.get(what) or Tally()

    def note(self) -> list[Any]:
        """Return all of them as JSON data."""
        return [(what, tally.note()) for what, tally in self._every.items()]

    def add(self, notes: Iterable[Any]) -> None:
        """Add what another process noted."""
        for what, note in notes:
            self.of(Of(*what)).add(note)
