"""Rows that are read once and then stay in memory: many candidates learn from the same ones."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from leptonai.core.signature import FeatureType
from leptonai.core.stages import Reader, Shuffle

_MEMORY = 2**30  # bytes; a dataset that is larger is read again for each fold


class Held:
    """A `core.stages.Reader` of rows in memory; orders are those of the one they were read from."""

    def __init__(self, reader: Reader):
        self.dataset, self.columns, self.target, self.rows = reader.dataset, reader.columns, reader.target, reader.rows
        self._reader = reader
        self._values: dict[str, Any] = {}

    def read(self, columns: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Return all rows."""
        names = tuple(column.name for column in self.columns) if columns is None else columns
        if lacking := tuple(name for name in names if name not in self._values):
            self._values |= self._reader.read(lacking)
        return {name: self._values[name] for name in names}

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
        """Yield batches, from place `start` of the epoch on."""
        if world > 1:
            yield from self._reader.batches(
                size, columns=columns, shuffle=shuffle, epoch=epoch, start=start, rank=rank, world=world
            )
            return
        values = self.read(columns)
        order = None if shuffle is None else np.asarray(self._reader.order(shuffle, epoch))
        for at in range(start, self.rows, size):
            part: Any = slice(at, at + size) if order is None else order[at : at + size]
            yield {name: np.asarray(column)[part] for name, column in values.items()}

    def window(self, columns: tuple[str, ...] | None = None) -> int:  # noqa: ARG002 - of the protocol
        """Return how many rows can be shuffled together: all."""
        return 0

    def order(self, shuffle: Shuffle, epoch: int) -> Any:
        """Return the row numbers in the order that `batches` has them in this epoch."""
        return self._reader.order(shuffle, epoch)


def held(reader: Reader) -> Reader:
    """Return a reader of the same rows that holds them, where there is memory enough."""
    width = sum((1 if column.type == FeatureType.IMAGE else 8) * math.prod(column.shape) for column in reader.columns)
    return Held(reader) if reader.rows * width <= _MEMORY else reader
