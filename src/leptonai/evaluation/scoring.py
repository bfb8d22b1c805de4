"""The metrics of what a model said of rows, for stages that choose between models: the same figures as in a report."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.evaluation import measuring
from leptonai.evaluation.spec import Evaluate

Array = NDArray[Any]


def scored(
    task: str, classes: tuple[str | int, ...], truth: Array, scores: Array, resamples: int, seed: int
) -> dict[str, Any]:
    """Return rows, metrics and, with at least two `resamples`, their intervals of 95 per cent; see `measuring.Answers` for the arrays."""
    asked = Evaluate(data="", slices=False, resamples=resamples, seed=seed)
    shaped = scores if task == "classification" else np.asarray(scores).reshape(len(scores), -1)
    if task != "classification" and shaped.shape[1] == 1:
        shaped = shaped[:, 0]
    found, _ = measuring.report(asked, measuring.Answers(task, classes, "", truth, shaped))
    return {
        "rows": found.rows,
        "metrics": dict(found.metrics),
        "intervals": {name: list(ends) for name, ends in found.intervals.items()},
        "notes": list(found.notes),
    }
