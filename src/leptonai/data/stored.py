"""Shards of a dataset version as NumPy arrays: all rows, chosen rows, or rows here and there."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.nouns import Column, FeatureType
from leptonai.core.ports import Store
from leptonai.data.blocks import as_array
from leptonai.data.shards import BLOCKS, read_shard

Batch = dict[str, Any]
_AT_ONCE = 2  # shards that are decoded at the same time
NO_TIME = np.iinfo(np.int64).min  # how a missing datetime is written


class StoredRows:
    """The rows of a version, numbered from 0 over all shards. Keeps the shards that were used last, within `memory` bytes."""

    def __init__(self, columns: Sequence[Column], shards: Sequence[dict[str, Any]], store: Store, memory: int):
        self._by_name = {column.name: column for column in columns}
        self._shards = shards
        self._store = store
        self._ends = list(accumulate(int(shard["rows"]) for shard in shards))
        self._memory = memory
        self._kept: OrderedDict[tuple[int, tuple[str, ...]], Batch] = OrderedDict()
        self._held = 0

    def read(self, names: Sequence[str], chosen: np.ndarray | None) -> Batch:
        """Return columns of the rows `chosen` (ascending), or of all; each shard is opened once, only chosen rows are copied."""
        parts = list(self._parts(chosen))
        if len(parts) == 1:
            (_, number, rows) = parts[0]
            return {n: v if rows is None else v[rows] for n, v in self._decode(number, names).items()}
        count = len(chosen) if chosen is not None else self._ends[-1]
        whole = {name: _room(count, self._by_name[name]) for name in names}

        def fill(part: tuple[int, int, np.ndarray | None]) -> None:
            at, number, rows = part
            for name, values in self._decode(number, names).items():
                found = values if rows is None else values[rows]
                whole[name][at : at + len(found)] = found

        with ThreadPoolExecutor(
            _AT_ONCE
        ) as pool:  # each thread holds one shard; Arrow works outside the interpreter's lock
            for done in [pool.submit(fill, part) for part in parts]:
                done.result()
        return whole

    def gather(self, names: Sequence[str], rows: np.ndarray) -> Batch:
        """Return columns of rows in any order, opening the shards that hold them."""
        places = np.searchsorted(self._ends, rows, side="right")
        found: Batch = {}
        for number in np.unique(places).tolist():
            here = places == number
            inside = rows[here] - self._first(number)
            for name, values in self._open(number, tuple(names)).items():
                if name not in found:
                    found[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
                found[name][here] = values[inside]
        return found

    def _first(self, number: int) -> int:
        return self._ends[number] - int(self._shards[number]["rows"])

    def _parts(self, chosen: np.ndarray | None) -> Iterator[tuple[int, int, np.ndarray | None]]:
        """Yield, for each shard that is needed, the place of its first row in what is asked for, its number, and its rows."""
        for number, end in enumerate(self._ends):
            if chosen is None:
                yield self._first(number), number, None
                continue
            low, high = np.searchsorted(chosen, (self._first(number), end)).tolist()
            if low < high:
                yield low, number, chosen[low:high] - self._first(number)

    def _decode(self, number: int, names: Sequence[str]) -> Batch:
        words = [name for name in names if _is_words(self._by_name[name])]
        table = read_shard(self._shards[number], self._store, names, words)
        return {name: to_numpy(table[name], self._by_name[name]) for name in names}

    def _open(self, number: int, names: tuple[str, ...]) -> Batch:
        key = (number, names)
        if key not in self._kept:
            shard = self._decode(number, names)
            self._held += _size(shard)
            while self._kept and self._held > self._memory:
                self._held -= _size(self._kept.popitem(last=False)[1])
            self._kept[key] = shard
        self._kept.move_to_end(key)
        return self._kept[key]


def _size(batch: Batch) -> int:
    return sum(values.nbytes * (10 if values.dtype == object else 1) for values in batch.values())


def _is_words(column: Column) -> bool:
    return column.type is FeatureType.CATEGORY and column.dtype == "str"


def _room(rows: int, column: Column) -> np.ndarray:
    """Return an empty array of the type that `to_numpy` gives."""
    plain = column.type in BLOCKS or column.type is FeatureType.DATETIME or column.dtype == "float64"
    return np.empty(
        (rows, *column.shape), column.dtype if plain or (not column.nullable and column.dtype != "str") else object
    )


def to_numpy(values: pa.ChunkedArray, column: Column) -> np.ndarray:
    """Return a column as `core.stages.Reader` promises it; what it is depends on the column alone, not on these values."""
    if column.type in BLOCKS:
        return as_array(values, column.dtype, column.shape)
    values = conform(values, column)
    if column.type is FeatureType.DATETIME:
        return np.asarray(pc.fill_null(pc.cast(values, pa.int64()), NO_TIME).to_numpy(), np.int64)
    if column.dtype == "float64":
        return np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), np.float64)
    if _is_words(column):
        return _words(values)
    if column.nullable or column.dtype == "str":
        objects = _room(len(values), column)
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
