"""Whether two versions of a model say the same of a row. They are two models, so their numbers may well differ.

A class must be the same one; a number must be within a tenth of the other, or within a quarter of what such numbers vary by.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from leptonai.core.signature import Signature

RELATIVE = 0.1
SPREAD = 0.25


class Spread:
    """How far the answers of a model vary: their standard deviation, kept up as they come (Welford 1962)."""

    def __init__(self) -> None:
        self._n = 0
        self._mean = 0.0
        self._squares = 0.0

    def learn(self, values: Any) -> None:
        """Take an array of numbers into account; what is not finite does not count."""
        values = np.asarray(values, np.float64).ravel()
        values = values[np.isfinite(values)]
        if not values.size:
            return
        n, mean = values.size, float(values.mean())
        apart, both = mean - self._mean, self._n + n
        self._squares += float(((values - mean) ** 2).sum()) + apart * apart * self._n * n / both
        self._mean += apart * n / both
        self._n = both

    @property
    def value(self) -> float:
        """The standard deviation; 0 of fewer than ten values, which say little."""
        return float((self._squares / self._n) ** 0.5) if self._n >= 10 else 0.0


def alike(signature: Signature, wanted: Mapping[str, Any], found: Mapping[str, Any], spread: Spread) -> float:
    """Return the share of the rows on which two answers agree. Arrays by output name; the first axis is the batch.

    Of a classifier with labels only these are compared. `spread` learns from `wanted`.
    """
    outputs = [spec.name for spec in signature.outputs]
    labels = [name for name in outputs if name in wanted and wanted[name].dtype.kind not in "fc"]
    same: Any = None
    for name in labels if labels and signature.task == "classification" else outputs:
        want, got = wanted.get(name), found.get(name)
        if want is None:
            continue
        if got is None or got.shape != want.shape or got.dtype.kind != want.dtype.kind:
            return 0.0
        rows = _rows(want, got, signature.task == "classification", spread)
        same = rows if same is None else same & rows
    return 1.0 if same is None or not same.size else float(same.mean())


def _rows(want: Any, got: Any, classes: bool, spread: Spread) -> Any:
    rows = len(want)
    if want.dtype.kind not in "fc":
        return (want == got).reshape(rows, -1).all(1)
    want, got = want.reshape(rows, -1).astype(np.float64), got.reshape(rows, -1).astype(np.float64)
    if classes and want.shape[1] > 1:
        return (want.argmax(1) == got.argmax(1)) & np.isfinite(got).all(1)
    spread.learn(want)
    with np.errstate(invalid="ignore", over="ignore"):
        off, size = np.linalg.norm(want - got, axis=1), np.linalg.norm(want, axis=1)
        near = off <= RELATIVE * size + SPREAD * spread.value * want.shape[1] ** 0.5
    return near | ((want == got) | (np.isnan(want) & np.isnan(got))).all(1)
