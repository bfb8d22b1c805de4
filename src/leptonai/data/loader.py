"""Batches of a part's rows in the order of an epoch: shards are fetched, decrypted and decoded by threads, ahead of who learns.

What fits into memory is decoded once and kept: the first epoch begins while the last shards are still read, later ones never
wait. What does not fit passes through two windows of rows: one that is used, and one that is being filled.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from leptonai.core.stages import Shuffle
from leptonai.data.loader_order import Epoch, Numbers, Piece, Window
from leptonai.data.stored import Batch

THREADS = 2  # shards that are decoded at the same time: Arrow and the cipher work outside the interpreter's lock
_SHARE = 3  # windows that would fit into the memory: one is used, one filled, and decoded shards need room too


class Source(Protocol):
    """Where rows of a part come from, as arrays by name. Its methods are called by several threads at once."""

    counts: Sequence[int]  # rows of the part in each shard
    width: int  # bytes of a row, about

    def load(self, piece: Piece) -> Batch:
        """Return the rows of a piece: arrays that nobody else has."""

    def blocks(self, piece: Piece) -> Iterator[Batch]:
        """Yield the rows of a piece in blocks of few rows, to be copied to where they belong."""

    def room(self, rows: int) -> Batch:
        """Return arrays for so many rows, to be filled."""

    def gather(self, numbers: Numbers) -> Batch:
        """Return rows by their numbers in the part; slow, since it opens whatever shards hold them."""


class Loader:
    """Batches of one source, epoch after epoch, within about `memory` bytes. `held`: its rows, where they are known already."""

    def __init__(self, source: Source, memory: int, held: Batch | None = None):
        self._source = source
        self._memory = memory
        self.rows = sum(source.counts)
        self.held = held

    @property
    def fits(self) -> bool:
        """Whether all rows are kept in memory."""
        return self.held is not None or self.rows * self._source.width <= self._memory

    @property
    def window(self) -> int:
        """How many rows can be shuffled together; 0: all of them."""
        return 0 if self.fits else max(1, self._memory // _SHARE // max(1, self._source.width))

    def all(self) -> Batch:
        """Return all rows, as they are stored."""
        with self._filling() as filling:
            return filling.upto(self.rows)

    def batches(
        self,
        size: int,
        shuffle: Shuffle | None = None,
        epoch: int = 0,
        start: int = 0,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> Generator[Batch, None, None]:
        """Yield batches of `size` rows, the last one smaller, from place `start` of the epoch on.

        Arrays of a batch may be views of what is held, which are not to be changed, where rows come as they are stored.
        """
        order = Epoch(self._source.counts, shuffle, epoch, rank, world)
        if self.fits:
            yield from self._from_memory(order, size, start)
        elif order.exact:  # begun on a machine with more memory: right before quick
            numbers = order.numbers()
            for at in range(start, order.rows, size):
                yield self._source.gather(numbers[at : at + size])
        else:
            yield from _cut(self._windows(order, start), size)

    def _from_memory(self, order: Epoch, size: int, start: int) -> Iterator[Batch]:
        with self._filling() as filling:
            numbers = None if order.plain else order.numbers()  # made while the first shards are read
            for at in range(start, order.rows, size):
                end = min(at + size, order.rows)
                whole = filling.upto(end if numbers is None else self.rows)
                yield take(whole, None if numbers is None else numbers[at:end], at, end)

    @contextmanager
    def _filling(self) -> Iterator["_Filling"]:
        filling = _Filling(self._source, self.held)
        try:
            yield filling
        finally:
            filling.close()
            if filling.whole:
                self.held = filling.batch

    def _windows(self, order: Epoch, start: int) -> Iterator[tuple[Batch, Numbers | None, int]]:
        """Yield the rows of each window, their order, and where in it to begin."""
        with _threads() as pool:
            ahead: deque[tuple[Window, _Room | Future[Batch]]] = deque()
            coming = order.windows(start)
            while True:
                while len(ahead) <= (1 if ahead and ahead[0][0].order is not None else THREADS):
                    if (window := next(coming, None)) is None:
                        break
                    one = window.order is None
                    load = self._source.load
                    ahead.append((window, pool.submit(load, window.pieces[0]) if one else _Room(self._source, window.pieces, pool)))  # fmt: skip
                if not ahead:
                    return
                window, found = ahead[0]
                yield found.result(), window.order, max(0, start - window.first)
                ahead.popleft()


class _Room:
    """Arrays that threads fill with pieces, one after the other in their place."""

    def __init__(self, source: Source, pieces: Sequence[Piece], pool: ThreadPoolExecutor):
        self.batch = source.room(sum(piece.high - piece.low for piece in pieces))
        self.ends: deque[tuple[int, Future[None]]] = deque()
        at = 0
        for piece in pieces:
            self.ends.append((at, pool.submit(self._fill, source, piece, at)))
            at += piece.high - piece.low

    def _fill(self, source: Source, piece: Piece, at: int) -> None:
        for block in source.blocks(piece):
            for name, values in block.items():
                self.batch[name][at : at + len(values)] = values
            at += _rows(block)

    def upto(self, row: int) -> Batch:
        """Wait until the rows before `row` are there."""
        while self.ends and self.ends[0][0] < row:
            self.ends[0][1].result()
            self.ends.popleft()
        return self.batch

    def result(self) -> Batch:
        """Wait until all rows are there."""
        while self.ends:
            self.ends.popleft()[1].result()
        return self.batch


class _Filling:
    """All rows of a source: there already, or being read in the order of the shards."""

    def __init__(self, source: Source, held: Batch | None):
        self._pool: ThreadPoolExecutor | None = None
        self._room: _Room | None = None
        if held is not None:
            self.batch = held
            return
        pieces = [Piece(number, 0, count) for number, count in enumerate(source.counts) if count]
        if len(pieces) == 1:
            self.batch = source.load(pieces[0])
            return
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="loader")
        self._room = _Room(source, pieces, self._pool)
        self.batch = self._room.batch

    def upto(self, row: int) -> Batch:
        return self.batch if self._room is None else self._room.upto(row)

    @property
    def whole(self) -> bool:
        return self._room is None or not self._room.ends

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=not self.whole)


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="loader")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def take(batch: Batch, rows: Numbers | None, low: int, high: int) -> Batch:
    """Return rows `low` to `high` as views, or copies of those that `rows` numbers."""
    if rows is None:
        return {name: values[low:high] for name, values in batch.items()}
    return {name: values.take(rows, axis=0) for name, values in batch.items()}


def _cut(windows: Iterator[tuple[Batch, Numbers | None, int]], size: int) -> Iterator[Batch]:
    """Yield batches of `size` rows of windows of any size; what is left of one begins the next batch."""
    left: list[Batch] = []
    missing = size
    for batch, order, at in windows:
        count = _rows(batch) if order is None else len(order)
        while at < count:
            end = min(at + missing, count)
            part = take(batch, None if order is None else order[at:end], at, end)
            missing -= end - at
            at = end
            if missing:
                left.append(part)
                continue
            yield part if not left else _joined([*left, part])
            left, missing = [], size
    if left:
        yield _joined(left)


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values()), ()))


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
