"""Columns side by side, ready to be tensors: all numbers in one array, so that a shuffled batch is one copy and not twenty.

What a value becomes: numbers float32; whole numbers, moments (microseconds) and classes int64, a class by its place in the
column's `categories`, -1 for none; truth values int64, -1 for none; images and tensors as they are; text stays text.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Unsupported
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.data.loader_order import Numbers, Piece
from leptonai.data.shards import BLOCKS
from leptonai.data.stored import Batch, Part, conform, to_numpy

FLOATS, INTEGERS = ".float32", ".int64"  # no column has such a name where it would stand in its way: see `_group`


class Place(NamedTuple):
    """Where a column lies: in which array, and in which of its columns; None: it is the array."""

    array: str
    at: int | None


class Packed:
    """A `loader.Source` of packed arrays over one of columns. With `pairs` all features are one array x, and the target is y."""

    def __init__(self, part: Part, target: str | None, *, pairs: bool = False):
        self._part = part
        self._shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self.places: dict[str, Place] = {}
        self.counts = part.counts
        groups = _pairs(part.columns, target) if pairs else {column.name: _group(column) for column in part.columns}
        members: dict[str, list[Column]] = {}
        for column in part.columns:
            members.setdefault(groups[column.name] or f"={column.name}", []).append(column)
        for array, columns in members.items():
            if array.startswith("=") or (pairs and columns[0].type in BLOCKS):
                self.places[columns[0].name] = Place(array, None)
                self._shapes[array] = (columns[0].shape, _dtype(columns[0]))
                continue
            floats = array in (FLOATS, "x") or (array == "y" and _group(columns[0]) == FLOATS)
            alone = array == "y" or (len(columns) == 1 and array != "x")  # an array of one column is that column
            for at, column in enumerate(columns):
                self.places[column.name] = Place(array, None if alone else at)
            self._shapes[array] = (() if alone else (len(columns),), "float32" if floats else "int64")
        self.width = sum(int(np.prod(shape)) * _size(dtype) for shape, dtype in self._shapes.values())

    def room(self, rows: int) -> Batch:
        """Return arrays for so many rows."""
        return {array: np.empty((rows, *shape), dtype) for array, (shape, dtype) in self._shapes.items()}

    def load(self, piece: Piece) -> Batch:
        """Return the rows of a piece. An image column of a whole shard is not copied."""
        return self._packed(self._part.coded(piece.shard), self._part.inside(piece))

    def blocks(self, piece: Piece) -> Iterator[Batch]:
        """Yield the rows of a piece a block at a time."""
        for table, rows in self._part.tables(piece):
            yield self._packed(table, rows)

    def _packed(self, table: pa.Table, rows: Numbers | slice | None) -> Batch:
        found: Batch = {}
        for column in self._part.columns:
            values = _values(table[column.name], column)
            values = values if rows is None else values[rows]
            array, at = self.places[column.name]
            if at is None and self._shapes[array][1] == values.dtype.name:
                found[array] = values
                continue
            if array not in found:
                shape, dtype = self._shapes[array]
                found[array] = np.empty((len(values), *shape), dtype)
            found[array][... if at is None else (slice(None), at)] = values
        return found

    def gather(self, numbers: Numbers) -> Batch:
        """Return rows by their numbers in the part; each shard is opened anew."""
        ends = np.cumsum(self.counts)
        places = np.searchsorted(ends, numbers, side="right")
        found = self.room(len(numbers))
        for shard in np.unique(places).tolist():
            here = places == shard
            whole = self.load(Piece(shard, 0, self.counts[shard]))
            for array, values in whole.items():
                found[array][here] = values[numbers[here] - (ends[shard] - self.counts[shard])]
        return found


_SCALARS = (FeatureType.NUMBER, FeatureType.INTEGER, FeatureType.CATEGORY, FeatureType.BOOLEAN, FeatureType.DATETIME)


def _group(column: Column) -> str | None:
    if column.type not in _SCALARS:
        return None
    return FLOATS if column.type in (FeatureType.NUMBER, FeatureType.INTEGER) and column.dtype != "int64" else INTEGERS


def _pairs(columns: Sequence[Column], target: str | None) -> dict[str, str]:
    """Return whether a column belongs to x or to y. Raises `Unsupported` for what does not become one array."""
    features = [column for column in columns if column.name != target]
    for column in features:
        if column.type not in (*_SCALARS, *BLOCKS) or (column.type in BLOCKS and len(features) > 1):
            raise Unsupported(
                f"column {column.name!r} ({column.type}) does not go into one array with the others: name the columns to learn from "
                "with columns=[…]",
                errors=[FieldError("columns", "scalar columns, or one of images or tensors")],
            )
    if not features:
        raise Unsupported("there is no column to learn from beside the target: name more with columns=[…]")
    return {column.name: "y" if column.name == target else "x" for column in columns}


def _dtype(column: Column) -> str:
    return column.dtype if column.type in BLOCKS else "object"


def _size(dtype: str) -> int:
    return 80 if dtype == "object" else np.dtype(dtype).itemsize


def _values(values: pa.ChunkedArray, column: Column) -> np.ndarray:
    if column.type not in _SCALARS:
        return to_numpy(values, column)
    if column.type is FeatureType.CATEGORY:
        return _places(values, column)
    plain = conform(values, column)
    if column.type is FeatureType.BOOLEAN:
        return np.asarray(pc.fill_null(pc.cast(plain, pa.int64()), -1).to_numpy(), np.int64)
    return to_numpy(plain, column)


def _places(values: pa.ChunkedArray, column: Column) -> np.ndarray:
    """Return the place of each value among the categories (rows,), int64; -1 for none.

    Of text that is stored as a dictionary and indices each word is looked up once, and not spelled out for each row.
    """
    found = []
    for chunk in values.chunks:
        words = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        plain = conform(pa.chunked_array([words]), column)
        known = pa.array(list(column.categories), plain.type)
        places = np.asarray(pc.fill_null(pc.index_in(plain, value_set=known), -1).to_numpy(), np.int64)
        if words is not chunk:
            indices = pc.fill_null(pc.cast(chunk.indices, pa.int64()), len(places))
            places = np.append(places, -1)[indices.to_numpy(zero_copy_only=False)]
        found.append(places)
    return np.concatenate(found) if found else np.empty(0, np.int64)
