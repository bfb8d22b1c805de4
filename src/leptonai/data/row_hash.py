"""Rows by their hashes: which were there already, in bounded memory.

A row is known by 128 bits, two seeded hashes of all its values: of ten million rows two different ones share them with a
chance below one in 10^24. Sixteen bytes a row are kept.
"""

import numpy as np
import polars as pl
import pyarrow as pa

_MOST_RUNS = 12


def hashes(table: pa.Table, seed: int = 0) -> np.ndarray:
    """Return a hash of each row (rows,), uint64. Equal values hash alike: 0.0 and -0.0, and all that are no number."""
    found = pl.DataFrame(pl.from_arrow(table)).hash_rows(seed=seed)
    return np.asarray(found.to_numpy(), np.uint64)


def distinct(found: np.ndarray) -> int:
    """Return how many different hashes there are. By sorting, which is several times as fast as `np.unique` here."""
    ordered = np.sort(found)
    return int(len(ordered) > 0) + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def among(asked: np.ndarray, known: np.ndarray) -> int:
    """Return how many of the hashes `asked` are among the `known`."""
    if not len(known):
        return 0
    ordered, asked = np.sort(known), np.sort(asked)
    at = np.minimum(np.searchsorted(ordered, asked), len(ordered) - 1)
    return int(np.count_nonzero(ordered[at] == asked))


class SeenRows:
    """The rows so far, as sorted runs of hashes that are merged as they grow."""

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def fresh(self, table: pa.Table) -> np.ndarray:
        """Return which rows (bool) are there for the first time, and remember them."""
        first, second = hashes(table, 1), hashes(table, 2)
        new = np.ones(len(first), bool)
        for known, check in self._runs:
            at = np.minimum(np.searchsorted(known, first), len(known) - 1)
            new &= ~((known[at] == first) & (check[at] == second))
        order = np.lexsort((np.arange(len(first)), first))
        again = np.zeros(len(first), bool)
        again[order[1:]] = (first[order[1:]] == first[order[:-1]]) & (second[order[1:]] == second[order[:-1]])
        new &= ~again
        kept = order[new[order]]
        if len(kept):
            self._runs.append((first[kept], second[kept]))
            self._merge()
        return new

    def _merge(self) -> None:
        """Join runs of like size, as a log-structured merge tree does: a row is moved a logarithmic number of times."""
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._join(2)
        if len(self._runs) > _MOST_RUNS:
            self._join(2)

    def _join(self, count: int) -> None:
        runs = self._runs[-count:]
        del self._runs[-count:]
        first = np.concatenate([run[0] for run in runs])
        order = np.argsort(first, kind="stable")  # of sorted runs: a merge
        self._runs.append((first[order], np.concatenate([run[1] for run in runs])[order]))
