"""Whether two ways to compute a model give the same answers, or answers that are near enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leptonai.core.signature import Signature


@dataclass(frozen=True)
class Tolerance:
    """How far the answers may lie from the reference's.

    In fp32 each number must be within `relative` and `absolute` of it, together. A rounder precision takes part only
    where `reduced` says so; then the best class must be the same in the share `labels` of the rows, and no number
    further off than `difference` (a probability of 0.50 may become 0.51).
    """

    relative: float = 1e-3
    absolute: float = 1e-4
    reduced: bool = False
    labels: float = 0.995
    difference: float = 0.01


class Agreement:
    """Compares answers, output by output, against those of the reference."""

    def __init__(self, signature: Signature, tolerance: Tolerance, precision: str):
        self._outputs = [spec.name for spec in signature.outputs]
        self._classes = signature.task == "classification"
        self._tolerance = tolerance
        self._exact = precision == "fp32"
        self.difference = 0.0  # the largest that was seen in a number

    def refusal(self, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
        """Return why these answers will not do, or None. Arrays by output name; the first axis is the batch."""
        for name in self._outputs:
            want, got = wanted[name], found.get(name)
            if got is None or got.shape != want.shape or got.dtype != want.dtype:
                given = "missing" if got is None else f"{got.dtype} {got.shape}"
                return f"output {name!r} is {given} instead of {want.dtype} {want.shape}"
            why = self._numbers(want, got) if want.dtype.kind == "f" else self._labels(want, got)
            if why:
                return f"output {name!r}: {why}"
        return None

    def _numbers(self, want: Any, got: Any) -> str | None:
        with np.errstate(invalid="ignore"):
            far = np.where((want == got) | (np.isnan(want) & np.isnan(got)), 0.0, np.abs(want - got))
        far = np.where(np.isnan(far), np.inf, far).astype(np.float64)
        worst = float(far.max(initial=0.0))
        self.difference = max(self.difference, worst)
        allowed = self._tolerance
        if self._exact:
            bound = allowed.absolute + allowed.relative * np.nan_to_num(np.abs(want), nan=0.0, posinf=0.0)
            return f"a number is {worst:.3g} off" if (far > bound).any() else None
        if worst > allowed.difference:
            return f"a number is {worst:.3g} off, and {allowed.difference:g} is allowed"
        if self._classes and want.ndim == 2 and want.shape[1] > 1:
            return self._share(want.argmax(1) == got.argmax(1))
        return None

    def _labels(self, want: Any, got: Any) -> str | None:
        # Numbers that are near enough can still fall on two sides of a limit between two classes.
        same = want == got
        return self._share(same) if self._classes else None if same.all() else "a value is another one"

    def _share(self, same: Any) -> str | None:
        share = float(same.mean()) if same.size else 1.0
        return f"{1 - share:.1%} of the rows get another class" if share < self._tolerance.labels else None
