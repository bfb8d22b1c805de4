"""Shards of a dataset version as NumPy arrays: all rows of a part, a piece of one shard, or rows here and there."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.nouns import Column
from leptonai.core.ports import Store
from leptonai.core.signature import FeatureType
from leptonai.data.blocks import as_array
from leptonai.data.loader_order import Numbers, Piece
from leptonai.data.personal import PersonalReader
from leptonai.data.shards import BLOCKS, read_blocks, read_shard

Batch = dict[str, Any]
NO_TIME = np.iinfo(np.int64).min  # how a missing datetime is written
_BLOCK_BYTES = 16 << 20  # of rows decoded at a time: with a MiB, two threads wait for each other half the time
_WORD_BYTES = 80  # about what a piece of text takes in memory


class StoredRows:
    """The shards of a version. Keeps those that `gather` used last, within `memory` bytes."""

    def __init__(
        self,
        columns: Sequence[Column],
        shards: Sequence[dict[str, Any]],
        store: Store,
        memory: int,
        personal: PersonalReader | None = None,
    ):
        self.by_name = {column.name: column for column in columns}
        self.ends = np.array([0, *accumulate(int(shard["rows"]) for shard in shards)][1:], np.int64)
        self.begins = np.array([0, *self.ends[:-1]], np.int64)[: len(self.ends)]
        self._shards = shards
        self._store = store
        self._personal = personal
        self._memory = memory
        self._kept: OrderedDict[tuple[int, tuple[str, ...]], Batch] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def table(self, number: int, names: Sequence[str]) -> pa.Table:
        """Return columns of one shard in the types that they have in the whole version."""
        return read_table(self._shards[number], self._store, [self.by_name[name] for name in names], self._personal)

    def blocks(self, number: int, names: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Yield columns of one shard as they are stored, text of few different values as dictionaries, so many rows at a time."""
        words = [name for name in names if _is_words(self.by_name[name])]
        yield from read_blocks(self._shards[number], self._store, names, rows, words, self._personal)

    def coded(self, number: int, names: Sequence[str]) -> pa.Table:
        """Return columns of one shard as they are stored, text of few different values as dictionaries."""
        words = [name for name in names if _is_words(self.by_name[name])]
        return read_shard(self._shards[number], self._store, names, words, self._personal)

    def decode(self, number: int, names: Sequence[str]) -> Batch:
        """Return columns of one shard as arrays."""
        table = self.coded(number, names)
        return {name: to_numpy(table[name], self.by_name[name]) for name in names}

    def gather(self, names: Sequence[str], rows: Numbers) -> Batch:
        """Return columns of rows in any order, opening the shards that hold them."""
        places = np.searchsorted(self.ends, rows, side="right")
        found: Batch = {name: room(len(rows), self.by_name[name]) for name in names}
        for number in np.unique(places).tolist():
            here = places == number
            inside = rows[here] - self.begins[number]
            for name, values in self._open(number, tuple(names)).items():
                found[name][here] = values[inside]
        return found

    def _open(self, number: int, names: tuple[str, ...]) -> Batch:
        key = (number, names)
        with self._lock:
            if key not in self._kept:
                shard = self.decode(number, names)
                self._held += _size(shard)
                while self._kept and self._held > self._memory:
                    self._held -= _size(self._kept.popitem(last=False)[1])
                self._kept[key] = shard
            self._kept.move_to_end(key)
            return self._kept[key]


class Part:
    """Columns of the rows `chosen` (numbers in the version, ascending), or of all: a `loader.Source`."""

    def __init__(self, stored: StoredRows, names: Sequence[str], chosen: Numbers | None):
        self._stored = stored
        self._names = tuple(names)
        self._chosen = chosen
        self.columns = [stored.by_name[name] for name in names]
        ends = stored.ends if chosen is None else np.searchsorted(chosen, stored.ends)
        self._begins = np.array([0, *ends[:-1]], np.int64)[: len(ends)]
        self.counts: Sequence[int] = (ends - self._begins).tolist()
        self.width = sum(map(bytes_of, self.columns))

    def load(self, piece: Piece) -> Batch:
        """Return the rows of a piece: of a whole shard just as they were decoded."""
        found = self._stored.decode(piece.shard, self._names)
        rows = self.inside(piece)
        return found if rows is None else {name: values[rows] for name, values in found.items()}

    def blocks(self, piece: Piece) -> Iterator[Batch]:
        """Yield the rows of a piece a block at a time."""
        for table, rows in self.tables(piece):
            values = {column.name: to_numpy(table[column.name], column) for column in self.columns}
            yield values if rows is None else {name: value[rows] for name, value in values.items()}

    def tables(self, piece: Piece) -> Iterator[tuple[pa.Table, Numbers | slice | None]]:
        """Yield a piece's shard as Arrow tables of 16 MiB at most, each with which of its rows are meant; None: all."""
        wanted, at = self.inside(piece), 0
        for table in self._stored.blocks(piece.shard, self._names, max(1, _BLOCK_BYTES // max(1, self.width))):
            end = at + table.num_rows
            if wanted is None:
                yield table, None
            elif isinstance(wanted, slice):
                low, high = max(wanted.start, at), min(wanted.stop, end)
                if low < high:
                    yield table, slice(low - at, high - at)
            else:
                first, last = np.searchsorted(wanted, (at, end))
                if first < last:
                    yield table, wanted[first:last] - at
            at = end

    def table(self, number: int) -> pa.Table:
        """Return all rows of a shard, as an Arrow table."""
        return self._stored.table(number, self._names)

    def coded(self, number: int) -> pa.Table:
        """Return all rows of a shard as they are stored, as an Arrow table with dictionaries."""
        return self._stored.coded(number, self._names)

    def inside(self, piece: Piece) -> Numbers | slice | None:
        """Return which rows of its shard a piece means; None: all of them."""
        if self._chosen is None:
            count = self.counts[piece.shard]
            return None if (piece.low, piece.high) == (0, count) else slice(piece.low, piece.high)
        first = self._begins[piece.shard]
        return np.asarray(self._chosen[first + piece.low : first + piece.high] - self._stored.begins[piece.shard])

    def room(self, rows: int) -> Batch:
        """Return arrays for so many rows."""
        return {column.name: room(rows, column) for column in self.columns}

    def gather(self, numbers: Numbers) -> Batch:
        """Return rows by their numbers in the part."""
        return self._stored.gather(self._names, numbers if self._chosen is None else self._chosen[numbers])


def bytes_of(column: Column) -> int:
    """Return about how much memory a value takes."""
    each = _WORD_BYTES if column.dtype == "str" else np.dtype(column.dtype).itemsize
    return each * int(np.prod(column.shape))


def _size(batch: Batch) -> int:
    return sum(values.nbytes * (10 if values.dtype == object else 1) for values in batch.values())


def _is_words(column: Column) -> bool:
    return column.type is FeatureType.CATEGORY and column.dtype == "str"


def room(rows: int, column: Column) -> np.ndarray:
    """Return an empty array of the type that `to_numpy` gives."""
    plain = column.type in BLOCKS or column.type is FeatureType.DATETIME or column.dtype == "float64"
    if column.type is FeatureType.BOXES:
        return np.empty(rows, object)
    return np.empty(
        (rows, *column.shape), column.dtype if plain or (not column.nullable and column.dtype != "str") else object
    )


def to_numpy(values: pa.ChunkedArray, column: Column) -> np.ndarray:
    """Return a column as `core.stages.Reader` promises it; what it is depends on the column alone, not on these values."""
    if column.type in BLOCKS:
        return as_array(values, column.dtype, column.shape)
    if column.type is FeatureType.BOXES:
        objects = room(len(values), column)
        for row, value in enumerate(values.to_pylist()):
            objects[row] = np.frombuffer(value, np.float32).reshape(-1, 5)
        return objects
    values = conform(values, column)
    if column.type is FeatureType.DATETIME:
        return np.asarray(pc.fill_null(pc.cast(values, pa.int64()), NO_TIME).to_numpy(), np.int64)
    if column.dtype == "float64":
        return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), np.float64)
    if _is_words(column):
        return _words(values)
    if column.nullable or column.dtype == "str":
        objects = room(len(values), column)
        objects[:] = values.to_pylist() if column.dtype != "str" else values.to_numpy()
        return objects
    return np.asarray(values.to_numpy(), column.dtype)


def conform(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    """Return a column of one shard in the type that it has in the whole version.

    A shard is written before the rest is seen: there, whole numbers may have been all there was, or nothing, or text that
    turned out to be whole numbers everywhere.
    """
    wanted = _ARROW.get((column.type, column.dtype)) or _ARROW.get((column.type, ""))
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if wanted is None or kind == wanted:
        return values
    if kind != values.type:
        values = pc.cast(values, kind)
    return pc.cast(values, wanted, safe=not pa.types.is_integer(kind))  # beyond 2**53 numbers are rounded


def read_table(
    shard: dict[str, Any], store: Store, columns: Sequence[Column], personal: PersonalReader | None = None
) -> pa.Table:
    """Return columns of a shard in the types that they have in the whole version; of images and tensors, what they are stands beside."""
    found = read_shard(shard, store, [column.name for column in columns], (), personal)
    arrays = [conform(found[column.name], column) for column in columns]
    fields = [
        pa.field(column.name, array.type, metadata=_about(column))
        for column, array in zip(columns, arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _about(column: Column) -> dict[str, str] | None:
    if column.type is FeatureType.BOXES:
        return {"boxes": json.dumps(column.categories)}
    if column.type not in BLOCKS:
        return None
    rate = {"rate": str(column.stats["rate"])} if "rate" in column.stats else {}
    return {"dtype": column.dtype, "shape": ",".join(map(str, column.shape)), **rate}


_ARROW = {
    (FeatureType.NUMBER, ""): pa.float64(),
    (FeatureType.INTEGER, ""): pa.int64(),
    (FeatureType.BOOLEAN, ""): pa.bool_(),
    (FeatureType.DATETIME, ""): pa.timestamp("us"),
    (FeatureType.TEXT, ""): pa.large_string(),
    (FeatureType.CATEGORY, "str"): pa.large_string(),
    (FeatureType.CATEGORY, "int64"): pa.int64(),
}


def _words(values: pa.ChunkedArray) -> np.ndarray:
    """Return text of few different values as objects, each value made once."""
    parts = []
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    for chunk in values.chunks:
        known = np.array([*chunk.dictionary.to_pylist(), None], object)
        parts.append(known[pc.fill_null(chunk.indices, len(known) - 1).to_numpy()])
    return np.concatenate(parts) if parts else np.empty(0, object)
