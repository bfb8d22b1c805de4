"""Which rows belong together: each column as a few levels, a value of a category or a quarter of a number's range."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType

Array = NDArray[Any]
LEVELS = 20  # of one column: its most frequent values
_FAR = float(np.finfo(np.float32).max)
_FEW = 8  # values of whole numbers that are a level each
_NUMBERS = (FeatureType.NUMBER, FeatureType.INTEGER, FeatureType.DATETIME)
_WORDS = (FeatureType.CATEGORY, FeatureType.BOOLEAN)


class Levels(NamedTuple):
    """One column: the level of each row, int16 (rows,), and what each level is; -1 is one that is not looked at."""

    name: str
    codes: Array
    words: tuple[str, ...]


class Watch:
    """Gathers the columns that subgroups are told from, batch by batch: neither the target nor a personal column, but those `named`."""

    def __init__(self, columns: Sequence[Column], target: str, named: Sequence[str] = ()):
        told = [c for c in columns if c.name != target and c.type in (*_NUMBERS, *_WORDS)]
        self._columns = [c for c in told if not c.pii or c.name in named]
        self._parts: dict[str, list[Array]] = {column.name: [] for column in self._columns}
        self._seen: dict[str, dict[Any, int]] = {c.name: {} for c in self._columns if c.type in _WORDS}

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it wants in each batch."""
        return tuple(self._parts)

    def add(self, batch: Mapping[str, Any]) -> None:
        """Take the rows of a batch."""
        for column in self._columns:
            self._parts[column.name].append(self._kept(column, batch[column.name]))

    def _kept(self, column: Column, values: Any) -> Array:
        if column.type in _NUMBERS:
            wide = np.asarray(values)
            if column.type is FeatureType.DATETIME:
                whole = wide.astype("datetime64[us]").astype(np.int64) if wide.dtype.kind == "M" else wide
                return np.asarray(whole, np.float64)
            return np.asarray(np.clip(wide, -_FAR, _FAR), np.float32)
        seen = self._seen[column.name]
        listed = (None if value is None or value != value else value for value in np.asarray(values).tolist())
        return np.fromiter((seen.setdefault(value, len(seen)) for value in listed), np.int32, len(values))

    def levels(self, notes: list[str]) -> tuple[Levels, ...]:
        """Return every column as levels; notes name those with more values than are looked at."""
        found = []
        for column in self._columns:
            values = np.concatenate(self._parts.pop(column.name))
            if column.type in _WORDS:
                one = _words(column.name, values, list(self._seen.pop(column.name)), notes)
            else:
                one = _ranges(column, values)
            if len(one.words) > 1:
                found.append(one)
        return tuple(found)


def _words(name: str, values: Array, seen: list[Any], notes: list[str]) -> Levels:
    counts = np.bincount(values, minlength=len(seen))
    kept = np.argsort(-counts, kind="stable")[:LEVELS]
    if len(seen) > LEVELS:
        notes.append(
            f"column {name!r} has {len(seen):,} values: only its {LEVELS} most frequent ones are looked at as subgroups"
        )
    place = np.full(len(seen), -1, np.int16)
    place[kept] = np.arange(len(kept))
    return Levels(name, place[values], tuple("missing" if seen[at] is None else str(seen[at]) for at in kept))


def _ranges(column: Column, values: Array) -> Levels:
    """Return quarters of the rows, by value; few whole numbers are a level each, and missing ones are one."""
    gone = np.isnan(values)
    there = values[~gone]
    codes = np.full(len(values), -1, np.int16)
    words: list[str] = []
    few = np.unique(there[:100_000]) if column.type is FeatureType.INTEGER else np.empty(0)
    if 0 < len(few) <= _FEW and len(few := np.unique(there)) <= _FEW:
        codes[~gone] = np.searchsorted(few, there)
        words = [f"{value:g}" for value in few]
    elif len(there):
        edges = np.unique(np.quantile(there, [0.25, 0.5, 0.75]))
        edges = edges[(edges > there.min())]
        codes[~gone] = np.searchsorted(edges, there, side="right")
        marks = [_mark(column, edge) for edge in edges]
        if marks:
            words = [f"below {marks[0]}", *(f"{a} to {b}" for a, b in pairwise(marks)), f"{marks[-1]} or more"]
        else:
            words = ["any value"]
    if gone.any():
        codes[gone] = len(words)
        words.append("missing")
    return Levels(column.name, codes, tuple(words))


def _mark(column: Column, edge: float) -> str:
    if column.type is FeatureType.DATETIME:
        return str(np.datetime64(int(edge), "us").astype("datetime64[s]"))
    return f"{edge:.4g}"
