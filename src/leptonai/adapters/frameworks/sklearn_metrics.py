"""Metrics of scikit-learn, by name or as functions of (truth, prediction)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn import metrics

from leptonai.adapters.frameworks.packing import unknown
from leptonai.core.errors import FieldError, Invalid

_CLASSES: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "precision": lambda y, p: metrics.precision_score(y, p, average="macro", zero_division=0),
    "recall": lambda y, p: metrics.recall_score(y, p, average="macro", zero_division=0),
    "f1": lambda y, p: metrics.f1_score(y, p, average="macro", zero_division=0),
}
_VALUES: dict[str, Callable[[Any, Any], float]] = {
    "mae": metrics.mean_absolute_error,
    "mse": metrics.mean_squared_error,
    "rmse": metrics.root_mean_squared_error,
    "r2": metrics.r2_score,
}
_SHORT = {
    "acc": "accuracy", "mean_absolute_error": "mae", "mean_squared_error": "mse", "root_mean_squared_error": "rmse",
    "r2_score": "r2", "accuracy_score": "accuracy", "f1_score": "f1",
}  # fmt: skip


def check(given: Sequence[object]) -> None:
    """Raise `Invalid` for a metric that is neither known by name nor callable."""
    for metric in given:
        if isinstance(metric, str):
            if _SHORT.get(metric.lower(), metric.lower()) not in {*_CLASSES, *_VALUES}:
                raise unknown("metric", metric, [*_CLASSES, *_VALUES, *_SHORT])
        elif not callable(metric):
            raise Invalid(
                f"metrics: {metric!r} is neither a name nor a function", errors=[FieldError("metrics", "names")]
            )


def measured(given: Sequence[Any], task: str, y: Any, predicted: Any) -> dict[str, float]:
    """Return the metrics by the names the user gave them; without any, accuracy or R² and the mean absolute error."""
    known = _CLASSES if task == "classification" else _VALUES
    found: dict[str, float] = {}
    for metric in given or (["accuracy"] if task == "classification" else ["r2", "mae"]):
        if not isinstance(metric, str):
            found[getattr(metric, "__name__", type(metric).__name__)] = float(metric(y, predicted))
        elif (name := _SHORT.get(metric.lower(), metric.lower())) in known:
            found[metric] = float(known[name](y, predicted))
        else:
            raise Invalid(f"metric {metric!r} does not suit a target of {task}: use one of {', '.join(known)}")
    return found


def loss(task: str, y: Any, scores: Any) -> float:
    """Return the log loss of probabilities (rows, classes), or the mean squared error of values."""
    if task == "regression":
        return float(np.mean(np.square(np.asarray(scores, dtype=np.float64).reshape(np.shape(y)) - y)))
    chosen = np.asarray(scores, dtype=np.float64)[np.arange(len(y)), y]
    return float(-np.log(np.clip(chosen, np.finfo(np.float32).eps, 1.0)).mean())
