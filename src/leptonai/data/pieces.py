"""The rows of a dataset version as Arrow tables, shard after shard, each column in the one type it has in the whole version."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.core.nouns import Column, Dataset, FeatureType
from leptonai.core.refs import DatasetRef
from leptonai.core.stages import Handle
from leptonai.data.personal import PersonalReader
from leptonai.data.shards import BLOCKS, read_shard
from leptonai.data.split import rows_of
from leptonai.data.stored import conform, to_numpy

_STRATA = (FeatureType.CATEGORY, FeatureType.BOOLEAN)


class Version:
    """A dataset version, read in order and in bounded memory: one shard at a time."""

    def __init__(self, ref: str, handle: Handle):
        self.ref = ref
        self.record: Dataset = handle.data(str(DatasetRef.parse(ref).model_copy(update={"splits": ()}))).dataset
        self._splits = DatasetRef.parse(ref).splits
        self._handle = handle
        with handle.blobs.open(self.record.manifest) as file:
            self._shards: list[dict[str, Any]] = json.loads(file.read())["shards"]
        self.columns: tuple[Column, ...] = self.record.columns
        self.shard_rows = max(int(shard["rows"]) for shard in self._shards)
        self.chosen = self._part()  # which rows of the version (bool) are in the part; None: all
        self.rows = self.record.rows if self.chosen is None else int(self.chosen.sum())

    def pieces(self, names: Sequence[str] | None = None) -> Iterator[tuple[pa.Table, np.ndarray]]:
        """Yield rows with their numbers in the version (int64, from 0); only the named columns are decoded."""
        first = 0
        for table in self._tables(names):
            numbers = np.arange(first, first + table.num_rows)
            first += table.num_rows
            if self.chosen is not None:
                kept = self.chosen[numbers]
                table, numbers = table.filter(pa.array(kept)), numbers[kept]
            if table.num_rows:
                yield table, numbers

    def _tables(self, names: Sequence[str] | None) -> Iterator[pa.Table]:
        wanted = [column for column in self.columns if names is None or column.name in names]
        schema = pa.schema([])
        personal = PersonalReader(self.record, self._handle.blobs)
        for shard in self._shards:
            table = read_shard(shard, self._handle.raw, [column.name for column in wanted], (), personal)
            values = [conform(table[column.name], column) for column in wanted]
            schema = pa.schema([field_of(column, found.type) for column, found in zip(wanted, values, strict=True)])
            yield pa.Table.from_arrays(values, schema=schema)

    def _part(self) -> np.ndarray | None:
        if not self._splits:
            return None
        chosen = np.zeros(self.record.rows, bool)
        chosen[rows_of(self._splits, self.record.rows, self.classes(any(s.stratify for s in self._splits)))] = True
        return chosen

    def classes(self, wanted: bool = True) -> np.ndarray | None:
        """Return the target of all rows where a split goes by its classes; else None."""
        target = next((column for column in self.columns if column.name == self.record.target), None)
        if not wanted or target is None or target.type not in _STRATA:
            return None
        found = [to_numpy(table[target.name], target) for table in self._tables([target.name])]
        return np.concatenate(found)


def field_of(column: Column, kind: pa.DataType) -> pa.Field:
    """Return the field of a column; images and tensors carry their layout, see `blocks.layout`."""
    if column.type not in BLOCKS:
        return pa.field(column.name, kind)
    about = {"dtype": column.dtype, "shape": ",".join(map(str, column.shape))}
    return pa.field(column.name, kind, metadata=about)
