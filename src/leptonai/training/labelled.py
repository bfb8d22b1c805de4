"""The rows of a dataset that have a label: those that have none yet are left out of what a model learns from."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.nouns import Column, Dataset
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Reader, Shuffle

Array = NDArray[Any]
_NO_TIME = np.iinfo(np.int64).min


def known(values: Any, column: Column) -> Array:
    """Return which values of a column (bool) are not missing."""
    array = np.asarray(values)
    if array.ndim > 1:
        return np.ones(len(array), bool)
    if array.dtype == object:
        return np.fromiter((value is not None and value == value for value in array.tolist()), bool, len(array))
    return array != _NO_TIME if column.type is FeatureType.DATETIME else ~np.isnan(array.astype(np.float64))


def may_lack(reader: Reader, target: str) -> bool:
    """Whether the target is that of a dataset that was imported as not labelled, or labelled in part."""
    column = next((column for column in reader.columns if column.name == target), None)
    return column is not None and target == reader.target and column.nullable


class Chosen:
    """A `core.stages.Reader` of some rows of another one: those where `kept` (bool, one for each row) is true.

    Places and orders are those of the other one, without the rows between.
    """

    def __init__(self, reader: Reader, kept: Array):
        self.dataset: Dataset = reader.dataset
        self.columns, self.target = reader.columns, reader.target
        self._reader, self._kept = reader, kept
        self.numbers: Array = np.flatnonzero(kept)
        self.rows = len(self.numbers)

    def read(self, columns: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Return all rows."""
        return {name: np.asarray(values)[self._kept] for name, values in self._reader.read(columns).items()}

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
        """Yield batches, from place `start` of the epoch on; rows between, and those of other ranks, are read and dropped."""
        order = np.arange(len(self._kept)) if shuffle is None else self._reader.order(shuffle, epoch)
        kept = self._kept[order]
        places = np.flatnonzero(kept)  # in the epoch of the other one
        if world > 1:
            places = places[rank * (len(places) // world) :][: len(places) // world]
            kept = np.isin(np.arange(len(kept)), places)
        if start >= len(places):
            return
        at = int(places[start])
        left: dict[str, Any] = {}
        for batch in self._reader.batches(size, columns=columns, shuffle=shuffle, epoch=epoch, start=at):
            rows = len(next(iter(batch.values())))
            chosen = kept[at : at + rows]
            at += rows
            new = {name: values[chosen] for name, values in batch.items()}
            left = {name: np.concatenate([left[name], new[name]]) for name in new} if left else new
            count = len(next(iter(left.values())))
            if count >= size:
                yield {name: values[:size] for name, values in left.items()}
                left = {name: values[size:] for name, values in left.items()} if count > size else {}
        if left and len(next(iter(left.values()))):
            yield left

    def window(self, columns: tuple[str, ...] | None = None) -> int:
        """Return how many rows can be shuffled together."""
        return self._reader.window(columns)

    def order(self, shuffle: Shuffle, epoch: int) -> Any:
        """Return the row numbers in the order that `batches` has them in this epoch."""
        order = self._reader.order(shuffle, epoch)
        number = np.cumsum(self._kept) - 1
        return number[order[self._kept[order]]]


class Labelled(Chosen):
    """The rows of a Reader that have a value of `target`, or, where not `wanted`, those that have none."""

    def __init__(self, reader: Reader, target: str, *, wanted: bool = True):
        column = next(column for column in reader.columns if column.name == target)
        found = known(reader.read((target,))[target], column)
        super().__init__(reader, found if wanted else ~found)
