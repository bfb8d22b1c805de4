"""Rows of a dataset version, or of a part of it, as NumPy batches (`core.stages.Reader`)."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, Dataset, FeatureType
from leptonai.core.refs import Split
from leptonai.core.stages import Handle
from leptonai.data.describe import as_array
from leptonai.data.shards import BLOCKS, read_shard
from leptonai.data.split import rows_of

_STRATA = {FeatureType.CATEGORY, FeatureType.BOOLEAN}


class DatasetReader:
    """Reads columns when they are first asked for, all of their shards at once, and keeps them in memory."""

    def __init__(self, dataset: Dataset, splits: Sequence[Split], handle: Handle):
        self.dataset = dataset
        self.columns: tuple[Column, ...] = dataset.columns
        self.target = dataset.target
        self._raw = handle.raw
        with handle.blobs.open(dataset.manifest) as file:
            self._manifest = json.loads(file.read())
        self._all: dict[str, np.ndarray] = {}
        self._rows: np.ndarray | None = None
        self._kept: dict[str, np.ndarray] = {}
        if splits:
            by_class = self.target is not None and self._column(self.target).type in _STRATA
            self._rows = rows_of(splits, dataset.rows, self._whole(str(self.target)) if by_class else None)
        self.rows = dataset.rows if self._rows is None else len(self._rows)

    def _column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        names = ", ".join(column.name for column in self.columns)
        raise Invalid(
            f"dataset {self.dataset.name} has no column {name!r}: its columns are {names}",
            errors=[FieldError(name, names)],
        )

    def _load(self, names: Sequence[str]) -> None:
        missing = [name for name in dict.fromkeys(names) if name not in self._all]
        if not missing:
            return
        columns = [self._column(name) for name in missing]
        parts = [read_shard(shard, self._raw, missing) for shard in self._manifest["shards"]]
        table = pa.concat_tables(parts)
        for column in columns:
            self._all[column.name] = _array(table[column.name], column)

    def _whole(self, name: str) -> np.ndarray:
        self._load([name])
        return self._all[name]

    def _part(self, name: str) -> np.ndarray:
        if name not in self._kept:
            whole = self._whole(name)
            self._kept[name] = whole if self._rows is None else whole[self._rows]
            if self._rows is not None and name != self.target:
                del self._all[name]  # the part is enough; the rest would only hold memory
        return self._kept[name]

    def read(self, columns: tuple[str, ...] | None = None) -> dict[str, Any]:
        """Return all rows."""
        names = columns or tuple(column.name for column in self.columns)
        self._load([name for name in names if name not in self._kept])
        return {name: self._part(name) for name in names}

    def batches(
        self, size: int, *, columns: tuple[str, ...] | None = None, order: Any = None, start: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Yield batches of `size` rows, from row `start` of the order on."""
        data = self.read(columns)
        count = self.rows if order is None else len(order)
        for at in range(start, count, size):
            rows = slice(at, min(at + size, count)) if order is None else order[at : at + size]
            yield {name: values[rows] for name, values in data.items()}


def _array(values: pa.ChunkedArray, column: Column) -> np.ndarray:
    if column.type in BLOCKS:
        return as_array(values, column.dtype, column.shape)
    if column.type is FeatureType.DATETIME:
        ticks = values.cast(pa.int64())
        return np.asarray(ticks.fill_null(np.iinfo(np.int64).min).to_numpy(), np.int64)
    if column.type is FeatureType.BOOLEAN and values.null_count == 0:
        return np.asarray(values.to_numpy(), bool)
    if column.type is FeatureType.NUMBER or (column.type is FeatureType.INTEGER and values.null_count):
        return np.asarray(values.cast(pa.float64()).to_numpy(), np.float64)
    return np.asarray(values.to_numpy())


def open_dataset(dataset: Dataset, splits: Sequence[Split], handle: Handle) -> DatasetReader:
    """Open a dataset version, or a part of it."""
    return DatasetReader(dataset, splits, handle)
