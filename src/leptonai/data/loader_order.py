"""In which order the rows of a part are read in one epoch: it follows from seed, epoch and window alone.

So a reader that is told epoch and row goes on with the very batches that were left, on whatever machine. Rows are numbered
through the part, from 0, as they are stored. The readers of one epoch (`rank` of `world`) get equally many rows, none twice;
what does not divide is left out, other rows in each epoch.

Within memory all rows are shuffled at once. Beyond it the shards are, and then the rows of so many shards as a window holds:
each shard is read once in an epoch. The first windows are smaller, so that the first batch need not wait for a whole one.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.stages import Shuffle

Numbers = NDArray[np.int64]
_FIRST = 8  # shards in the first window; each window may have twice as many as the one before


class Piece(NamedTuple):
    """Rows of one shard: those of the part, from `low` to `high`, counted within the shard."""

    shard: int
    low: int
    high: int


class Window(NamedTuple):
    """Rows that are read, and shuffled, together. `order` has places in the pieces' rows; None: as they are stored."""

    first: int  # how many rows of the epoch come before
    rows: int
    pieces: tuple[Piece, ...]
    order: Numbers | None


class Epoch:
    """The order of one epoch over shards that hold `counts` rows of the part."""

    def __init__(
        self, counts: Sequence[int], shuffle: Shuffle | None = None, epoch: int = 0, rank: int = 0, world: int = 1
    ):
        self._counts = list(counts)
        self._begins = [0, *accumulate(self._counts)]
        self._shuffle, self._epoch = shuffle, epoch
        count = self._begins[-1]
        self.rows = count // world
        self._low = rank * self.rows
        self._count = count

    @property
    def exact(self) -> bool:
        """Whether all rows are shuffled at once."""
        return self._shuffle is not None and not 0 < self._shuffle.window < self._count

    @property
    def plain(self) -> bool:
        """Whether the rows come as they are stored, all of them."""
        return self._shuffle is None and self.rows == self._count

    def windows(self, start: int = 0) -> Iterator[Window]:
        """Yield the windows that hold the rows from place `start` of the epoch on; the first may begin before it."""
        if self.exact:
            if not self.rows:
                return
            pieces = tuple(Piece(n, 0, count) for n, count in enumerate(self._counts) if count)
            order = self._random().permutation(self._count)[self._low : self._low + self.rows]
            yield Window(0, self.rows, pieces, order)
            return
        first = 0
        for number, pieces in enumerate(self._grouped()):
            rows = sum(piece.high - piece.low for piece in pieces)
            if first + rows > start:
                mixed = None if self._shuffle is None else self._random(number + 1).permutation(rows)
                yield Window(first, rows, pieces, mixed)
            first += rows

    def numbers(self) -> Numbers:
        """Return the row numbers of the whole epoch, for rows that are held in memory."""
        found, begins = [np.empty(0, np.int64)], self._begins
        for window in self.windows():
            rows = np.concatenate([np.arange(begins[n] + low, begins[n] + high) for n, low, high in window.pieces])
            found.append(rows if window.order is None else rows[window.order])
        return np.concatenate(found)

    def _random(self, *more: int) -> np.random.Generator:
        assert self._shuffle is not None  # noqa: S101  # asked only where rows are shuffled
        return np.random.default_rng([self._shuffle.seed, self._epoch, *more])

    def _grouped(self) -> Iterator[tuple[Piece, ...]]:
        if self._shuffle is None:
            yield from ((piece,) for piece in self._pieces(range(len(self._counts))))
            return
        held: list[Piece] = []
        rows, most = 0, _FIRST
        for piece in self._pieces(self._random(0).permutation(len(self._counts)).tolist()):
            if held and (rows + piece.high - piece.low > self._shuffle.window or len(held) >= most):
                yield tuple(held)
                held, rows, most = [], 0, 2 * most
            held.append(piece)
            rows += piece.high - piece.low
        if held:
            yield tuple(held)

    def _pieces(self, shards: Sequence[int]) -> Iterator[Piece]:
        """Yield what this reader has of the shards, laid one after the other in this order."""
        at = 0
        for shard in shards:
            low, high = max(self._low - at, 0), min(self._low + self.rows - at, self._counts[shard])
            if low < high:
                yield Piece(shard, low, high)
            at += self._counts[shard]
