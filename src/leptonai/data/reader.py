"""Rows of a dataset version, or of a part of it, as NumPy batches (`core.stages.Reader`)."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psutil

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, Dataset, FeatureType
from leptonai.core.refs import Split
from leptonai.core.stages import Handle
from leptonai.data.split import rows_of
from leptonai.data.stored import Batch, StoredRows

_STRATA = {FeatureType.CATEGORY, FeatureType.BOOLEAN}
_WORD_BYTES = 80  # about what a piece of text takes in memory
_SHARE = 0.5  # of the memory that is free, for what is kept


def open_dataset(dataset: Dataset, splits: Sequence[Split], handle: Handle) -> "DatasetReader":
    """Open a dataset version, or a part of it."""
    limit = handle.run.limits.memory_mb
    free = psutil.virtual_memory().available
    return DatasetReader(dataset, splits, handle, int(_SHARE * min(free, limit << 20 if limit else free)))


class DatasetReader:
    """Reads columns when they are first asked for and keeps them, while they fit into `memory` bytes; else shard by shard.

    Shard by shard, an order that jumps between shards is slow, since each batch opens many of them.
    """

    def __init__(self, dataset: Dataset, splits: Sequence[Split], handle: Handle, memory: int):
        self.dataset = dataset
        self.columns: tuple[Column, ...] = dataset.columns
        self.target = dataset.target
        self._by_name = {column.name: column for column in dataset.columns}
        with handle.blobs.open(dataset.manifest) as file:
            shards = json.loads(file.read())["shards"]
        self._memory = memory
        self._stored = StoredRows(dataset.columns, shards, handle.raw, memory)
        self._kept: Batch = {}
        self._rows = self._chosen(splits) if splits else None  # numbers in the version, ascending; None: all
        self.rows = dataset.rows if self._rows is None else len(self._rows)

    def _chosen(self, splits: Sequence[Split]) -> np.ndarray:
        strata = self.target is not None and self._by_name[self.target].type in _STRATA
        if self.target is None or not strata or not any(split.stratify for split in splits):
            return rows_of(splits, self.dataset.rows, None)
        classes = self._stored.read([self.target], None)[self.target]
        return rows_of(splits, self.dataset.rows, classes)

    def read(self, columns: tuple[str, ...] | None = None) -> Batch:
        """Return all rows. Raises `Invalid` for a column that is not there, `Corrupt` when a shard was altered."""
        names = self._names(columns)
        if wanted := [name for name in names if name not in self._kept]:
            self._kept |= self._stored.read(wanted, self._rows)
        found = {name: self._kept[name] for name in names}
        if self._bytes(self._kept) > self._memory:
            self._kept = {}
        return found

    def batches(
        self, size: int, *, columns: tuple[str, ...] | None = None, order: Any = None, start: int = 0
    ) -> Iterator[Batch]:
        """Yield batches of `size` rows, from row `start` of the order on."""
        names = self._names(columns)
        whole = self.read(names) if self._bytes(names) <= self._memory else None
        count = self.rows if order is None else len(order)
        for at in range(start, count, size):
            rows = slice(at, min(at + size, count)) if order is None else order[at : at + size]
            if whole is not None:
                yield {name: values[rows] for name, values in whole.items()}
            else:
                yield self._stored.gather(names, self._numbers(rows))

    def _names(self, columns: tuple[str, ...] | None) -> tuple[str, ...]:
        for name in columns or ():
            if name not in self._by_name:
                known = ", ".join(list(self._by_name)[:30])
                raise Invalid(
                    f"dataset {self.dataset.name} has no column {name!r}: its columns are {known}",
                    errors=[FieldError(name, f"one of {known}")],
                )
        return tuple(self._by_name) if columns is None else tuple(dict.fromkeys(columns))

    def _bytes(self, names: Sequence[str] | Batch) -> int:
        """Return about how much memory columns of the part take."""
        width = 0
        for name in names:
            column = self._by_name[name]
            each = _WORD_BYTES if column.dtype == "str" else np.dtype(column.dtype).itemsize
            width += each * int(np.prod(column.shape))
        return width * self.rows

    def _numbers(self, rows: Any) -> np.ndarray:
        """Return the numbers, in the version, of rows of the part."""
        if self._rows is not None:
            return np.asarray(self._rows[rows])
        return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else np.asarray(rows)
