"""Rows of a dataset version, or of a part of it, as NumPy batches (`core.stages.Reader`)."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import psutil

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column, Dataset
from leptonai.core.ports import Store
from leptonai.core.refs import Split
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Handle, Shuffle
from leptonai.data.loader import Loader
from leptonai.data.loader_cache import near
from leptonai.data.loader_order import Epoch, Numbers
from leptonai.data.personal import PersonalReader
from leptonai.data.split import rows_of
from leptonai.data.stored import Batch, Part, StoredRows, bytes_of

_STRATA = {FeatureType.CATEGORY, FeatureType.BOOLEAN}
_SHARE = 0.5  # of the memory that is free, for what is kept


def open_dataset(dataset: Dataset, splits: Sequence[Split], handle: Handle, mask: bool = False) -> "DatasetReader":
    """Open a dataset version, or a part of it; with `mask` no value of a personal column is there."""
    with handle.blobs.open(dataset.manifest) as file:
        shards = orjson.loads(file.read())["shards"]
    store = near(handle.raw, handle.cache)
    memory = share_of_memory(handle.run.limits.memory_mb) // handle.run.workers
    personal = PersonalReader(dataset, handle.blobs, mask=mask)
    return DatasetReader(dataset, splits, shards, store, memory, personal)


def share_of_memory(limit_mb: int | None = None) -> int:
    """Return how many bytes rows may take: half of what is free, or of what a Run may use."""
    free = psutil.virtual_memory().available
    return int(_SHARE * min(free, limit_mb << 20 if limit_mb else free))


class DatasetReader:
    """Reads columns when they are first asked for and keeps them, while they fit into `memory` bytes; else window by window."""

    def __init__(
        self,
        dataset: Dataset,
        splits: Sequence[Split],
        shards: Sequence[dict[str, Any]],
        store: Store,
        memory: int,
        personal: PersonalReader | None = None,
    ):
        self.dataset = dataset
        self.columns: tuple[Column, ...] = dataset.columns if personal is None else personal.columns
        self.target = dataset.target
        self._by_name = {column.name: column for column in self.columns}
        self.memory = memory
        self._stored = StoredRows(self.columns, shards, store, memory, personal)
        self._kept: Batch = {}
        self._rows = self._chosen(splits) if splits else None  # numbers in the version, ascending; None: all
        self.rows = dataset.rows if self._rows is None else len(self._rows)

    def _chosen(self, splits: Sequence[Split]) -> Numbers:
        strata = self.target is not None and self._by_name[self.target].type in _STRATA
        if self.target is None or not strata or not any(split.stratify for split in splits):
            return rows_of(splits, self.dataset.rows, None)
        whole = Loader(Part(self._stored, (self.target,), None), self.memory).all()
        return rows_of(splits, self.dataset.rows, whole[self.target])

    def part(self, columns: Sequence[str] | None = None) -> Part:
        """Return the rows of these columns as a loader takes them. Raises `Invalid` for a column that is not there."""
        return Part(self._stored, self._names(columns), self._rows)

    def read(self, columns: tuple[str, ...] | None = None) -> Batch:
        """Return all rows. Raises `Invalid` for a column that is not there, `Corrupt` when a shard was altered."""
        names = self._names(columns)
        if wanted := [name for name in names if name not in self._kept]:
            self._kept |= Loader(self.part(wanted), self.memory).all()
        found = {name: self._kept[name] for name in names}
        self._forget()
        return found

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
    ) -> Iterator[Batch]:
        """Yield batches of `size` rows, from place `start` of the epoch on; of `world` readers each gets other rows."""
        names = self._names(columns)
        held = {name: self._kept[name] for name in names} if set(names) <= self._kept.keys() else None
        loader = Loader(self.part(names), self.memory, held)
        try:
            yield from loader.batches(size, shuffle, epoch, start, rank=rank, world=world)
        finally:
            self._kept |= loader.held or {}
            self._forget()

    def window(self, columns: tuple[str, ...] | None = None) -> int:
        """Return how many rows can be shuffled together; 0: all of them."""
        return Loader(self.part(columns), self.memory).window

    def order(self, shuffle: Shuffle, epoch: int) -> Numbers:
        """Return the numbers of the rows in the order of an epoch."""
        return Epoch(self.part(()).counts, shuffle, epoch).numbers()

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Yield the rows as Arrow tables, one of each shard that has some."""
        part = self.part(columns)
        for piece in (piece for window in Epoch(part.counts).windows() for piece in window.pieces):
            table, rows = part.table(piece.shard), part.inside(piece)
            yield table if rows is None else table.take(rows)

    def _forget(self) -> None:
        if self.rows * sum(bytes_of(self._by_name[name]) for name in self._kept) > self.memory:
            self._kept = {}

    def _names(self, columns: Sequence[str] | None) -> tuple[str, ...]:
        for name in columns or ():
            if name not in self._by_name:
                known = ", ".join(list(self._by_name)[:30])
                raise Invalid(
                    f"dataset {self.dataset.name} has no column {name!r}: its columns are {known}",
                    errors=[FieldError(name, f"one of {known}")],
                )
        return tuple(self._by_name) if columns is None else tuple(dict.fromkeys(columns))
