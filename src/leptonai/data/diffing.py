"""Rows of two versions held against each other by their hashes: 24 bytes a row and version are kept."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.nouns import Column
from leptonai.data.pieces import Version
from leptonai.data.row_hash import hashes


class Prints(NamedTuple):
    """Hashes of the rows of one version, in the order of their keys."""

    keys: np.ndarray  # uint64, ascending
    whole: np.ndarray  # uint64: of all compared columns
    rows: np.ndarray  # int64: numbers in the version


class Found(NamedTuple):
    """Rows by what became of them, as numbers in their version, ascending."""

    added: np.ndarray
    removed: np.ndarray
    changed: np.ndarray  # (rows, 2): before, after
    same: int
    repeated: int  # rows whose key another row of the same version has too


def prints(version: Version, columns: Sequence[str], key: Sequence[str]) -> Prints:
    """Return the hashes of a version."""
    keys, whole, rows = [], [], []
    for table, numbers in version.pieces([*columns, *key]):
        alike = comparable(table)
        whole.append(hashes(alike.select(list(columns))))
        keys.append(hashes(alike.select(list(key))) if key else whole[-1])
        rows.append(numbers)
    one, all_, number = (np.concatenate(parts) if parts else np.empty(0, np.int64) for parts in (keys, whole, rows))
    order = np.lexsort((all_, one)) if key else np.argsort(one, kind="stable")
    return Prints(one[order], all_[order], number[order])


def compare(before: Prints, after: Prints) -> Found:
    """Hold two versions against each other. Of rows with one key the first with the first, the second with the second, and so on."""
    left, right = _ranked(before.keys), _ranked(after.keys)
    # A key and its rank name one row of a version; both are matched by a search in the other.
    place = np.searchsorted(after.keys, before.keys, side="left") + left
    met = place < len(after.keys)
    met[met] = after.keys[place[met]] == before.keys[met]
    back = np.searchsorted(before.keys, after.keys, side="left") + right
    known = back < len(before.keys)
    known[known] = before.keys[back[known]] == after.keys[known]
    other = np.zeros(len(met), bool)
    other[met] = before.whole[met] != after.whole[place[met]]
    pairs = np.stack([before.rows[other], after.rows[place[other]]], axis=1)
    return Found(
        added=np.sort(after.rows[~known]),
        removed=np.sort(before.rows[~met]),
        changed=pairs[np.argsort(pairs[:, 1], kind="stable")],
        same=int(met.sum() - other.sum()),
        repeated=int(np.count_nonzero(left) + np.count_nonzero(right)),
    )


def _ranked(keys: np.ndarray) -> np.ndarray:
    """Return how many equal keys come before each, in a sorted array."""
    if not len(keys):
        return np.empty(0, np.int64)
    first = np.r_[True, keys[1:] != keys[:-1]]
    starts = np.flatnonzero(first)
    return np.asarray(np.arange(len(keys)) - starts[np.cumsum(first) - 1])


def comparable(table: pa.Table) -> pa.Table:
    """Return a table in which whole numbers are numbers and no number is missing, as they may be in the other version."""
    for at, field in enumerate(table.schema):
        values = table[field.name]
        if pa.types.is_integer(field.type):
            values = pc.cast(values, pa.float64(), safe=False)
        if pa.types.is_floating(values.type):
            values = pc.if_else(
                pc.is_null(values, nan_is_null=True), pa.scalar(None, pa.float64()), pc.cast(values, pa.float64())
            )
            table = table.set_column(at, field.name, values)
    return table


def fetched(version: Version, rows: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Return rows of a version by number, ascending and each once."""
    wanted = np.zeros(version.record.rows, bool)
    wanted[rows] = True
    parts = [
        table.filter(pa.array(wanted[numbers])) for table, numbers in version.pieces(columns) if wanted[numbers].any()
    ]
    if parts:
        return pa.concat_tables(parts).select(list(columns))
    return pa.table({name: pa.nulls(0) for name in columns})


def statistics(before: Sequence[Column], after: Sequence[Column]) -> list[dict[str, Any]]:
    """Return the statistics that differ, of columns that both have."""
    known = {column.name: column for column in before}
    return [
        {
            "column": column.name,
            "statistic": word,
            "before": known[column.name].stats.get(word),
            "after": column.stats.get(word),
        }
        for column in after
        if column.name in known and not column.pii and not known[column.name].pii
        for word in ("missing", "unique", "mean", "std", "min", "50%", "max", "mean_length", "max_length")
        if known[column.name].stats.get(word) != column.stats.get(word)
    ]
