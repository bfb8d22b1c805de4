"""The workers that a plane gives requests of one version to: some may come, and some go, while requests are with them."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from leptonai.serving.plane.line import Line
from leptonai.serving.tally import BOUNDS


class Seat(Protocol):
    """One worker, as a plane sees it."""

    line: Line

    def leave(self) -> None:
        """Give it nothing more, and hang up when it has answered what it has."""

    def close(self) -> None:
        """Hang up."""


S = TypeVar("S", bound=Seat)


class Crew(Generic[S]):
    """The seats by the number of their worker. Used on the event loop only."""

    def __init__(self, make: Callable[[int], S]):
        self.wanted = 0  # how many there are to be, with those that are being started
        self._make = make
        self._seats: dict[int, S] = {}

    @property
    def seats(self) -> list[S]:
        """Those that may be given work, as far as they are connected."""
        return list(self._seats.values())

    @property
    def up(self) -> int:
        """How many are connected."""
        return sum(seat.line.up for seat in self._seats.values())

    def change(self, numbers: Iterable[int], wanted: int | None = None) -> None:
        """Have these workers from now on: others are connected to, and who is named no more leaves when it has answered."""
        named = set(numbers)
        self.wanted = len(named) if wanted is None else wanted
        for number in self._seats.keys() - named:
            self._seats.pop(number).leave()
        for number in sorted(named - self._seats.keys()):
            self._seats[number] = self._make(number)

    def close(self) -> None:
        """Hang up on all."""
        for seat in self._seats.values():
            seat.close()


class Waits:
    """Counts of how long requests waited, between `tally.BOUNDS`."""

    def __init__(self, seconds: Iterable[float] = ()):
        self._counts: dict[int, int] = {}
        for one in seconds:
            self.count(one)

    def count(self, seconds: float) -> None:
        """Count one request."""
        place = bisect_left(BOUNDS, seconds)
        self._counts[place] = self._counts.get(place, 0) + 1

    def note(self) -> list[tuple[int, int]]:
        """Return the places that have some, and how many; as JSON data."""
        return sorted(self._counts.items())
