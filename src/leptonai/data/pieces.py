"""The rows of a dataset version as Arrow tables, shard after shard, each column in the one type it has in the whole version."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.core.nouns import Column, Dataset
from leptonai.core.refs import DatasetRef
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle
from leptonai.data.personal import PersonalReader
from leptonai.data.split import rows_of
from leptonai.data.stored import read_table, to_numpy

_STRATA = (FeatureType.CATEGORY, FeatureType.BOOLEAN)


class Version:
    """A dataset version, read in order and in bounded memory: one shard at a time.

    Personal columns are not there, unless `personal` asks for them, which takes the permission dataset:pii.
    """

    def __init__(self, ref: str, handle: Handle, *, personal: bool = False):
        self.ref = ref
        self.record: Dataset = handle.data(str(DatasetRef.parse(ref).model_copy(update={"splits": ()}))).dataset
        self._personal = PersonalReader(self.record, handle.blobs) if personal else None
        self._splits = DatasetRef.parse(ref).splits
        self._handle = handle
        with handle.blobs.open(self.record.manifest) as file:
            self._shards: list[dict[str, Any]] = json.loads(file.read())["shards"]
        self.columns: tuple[Column, ...] = tuple(c for c in self.record.columns if personal or not c.pii)
        self.hidden = tuple(c.name for c in self.record.columns if c.pii and not personal)
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
        for shard in self._shards:
            yield read_table(shard, self._handle.raw, wanted, self._personal)

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
