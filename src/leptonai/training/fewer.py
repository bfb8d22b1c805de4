"""Rows that are fewer, or wrong: what a learning curve, and a look at label noise, have a model learn from."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.stages import Reader, Shuffle

Array = NDArray[Any]


def fewer(kept: Array, share: float, seed: int, order: Array | None) -> Array:
    """Return which rows are left (bool) where a share of those `kept` is: a smaller share is part of a larger one.

    `order`: places in time (rows,): then the latest are left, as whoever has less has the latest; None: random ones.
    """
    numbers = np.flatnonzero(kept)
    keys = np.random.default_rng(seed).random(len(kept))[numbers]
    by = np.lexsort((keys, keys if order is None else -order[numbers]))
    found = np.zeros(len(kept), bool)
    found[numbers[by[: max(1, round(share * len(numbers)))]]] = True
    return found


class Mislabelled:
    """A `core.stages.Reader` of another one, where a share of the rows has a wrong target: another class, or the value of another row."""

    def __init__(self, reader: Reader, target: str, share: float, seed: int, *, classes: bool):
        self.dataset, self.columns, self.target, self.rows = reader.dataset, reader.columns, reader.target, reader.rows
        self._reader, self._name = reader, target
        random = np.random.default_rng(seed)
        self._values = np.array(reader.read((target,))[target])
        some = random.permutation(self.rows)[: round(share * self.rows)]
        if classes:
            known, number = np.unique(self._values, return_inverse=True)
            if len(known) > 1:
                self._values[some] = known[(number[some] + random.integers(1, len(known), len(some))) % len(known)]
        else:
            self._values[some] = self._values[random.integers(0, self.rows, len(some))]

    def read(self, columns: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Return all rows."""
        found = dict(self._reader.read(columns))
        return found | {self._name: self._values} if self._name in found else found

    def batches(
        self,
        size: int,
        *,
        columns: tuple[str, ...] | None = None,
        shuffle: Shuffle | None = None,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[dict[str, Any]]:
        """Yield batches, as the other one does."""
        order = np.arange(self.rows) if shuffle is None else self._reader.order(shuffle, epoch)
        at = start + rank * (self.rows // world) if world > 1 else start
        given = self._reader.batches(
            size, columns=columns, shuffle=shuffle, epoch=epoch, start=start, rank=rank, world=world
        )
        for batch in given:
            rows = len(next(iter(batch.values())))
            if self._name in batch:
                batch = {**batch, self._name: self._values[order[at : at + rows]]}
            at += rows
            yield batch

    def window(self, columns: tuple[str, ...] | None = None) -> int:
        """Return how many rows can be shuffled together."""
        return self._reader.window(columns)

    def order(self, shuffle: Shuffle, epoch: int) -> Any:
        """Return the row numbers in the order that `batches` has them in this epoch."""
        return self._reader.order(shuffle, epoch)
