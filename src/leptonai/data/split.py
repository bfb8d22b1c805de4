"""Seeded splits: which rows belong to a part. Computed from the seed, the number of rows and the target; no row is copied."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from leptonai.core.refs import Split, part_sizes


def rows_of(splits: Sequence[Split], rows: int, target: Any | None) -> np.ndarray:
    """Return the numbers of the rows (int64, ascending) that a chain of splits leaves.

    `target` is the column of classes to stratify by (rows,), None for none. The same arguments give the same rows for ever:
    the order comes from PCG64's raw bits, which NumPy promises never to change (NEP 19), not from its shuffle.
    """
    kept = np.arange(rows, dtype=np.int64)
    for split in splits:
        classes = _codes(target, kept) if split.stratify and target is not None else np.zeros(len(kept), np.int64)
        kept = np.sort(kept[_train(classes, split) == (split.part == "train")])
    return kept


def _codes(target: Any, kept: np.ndarray) -> np.ndarray:
    values = np.asarray(target)[kept]
    if values.dtype.kind == "O":
        values = np.array(["" if value is None else f"{value}" for value in values.tolist()])
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _train(classes: np.ndarray, split: Split) -> np.ndarray:
    """Return which rows (bool) go to the train part."""
    keys = np.random.PCG64(split.seed).random_raw(len(classes))
    order = np.lexsort((keys, classes))
    counts = np.bincount(classes) if len(classes) else np.zeros(0, np.int64)
    chosen = np.zeros(len(classes), bool)
    start = 0
    for count, size in zip(counts.tolist(), part_sizes(counts.tolist(), split.train_size), strict=True):
        chosen[order[start : start + size]] = True
        start += count
    return chosen
