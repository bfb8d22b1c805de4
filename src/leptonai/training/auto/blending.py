"""Weights for several models, so that the mean of what they say errs less than any of them (Caruana et al. 2004)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Whose models can be put into one, by kind of problem: estimators of scikit-learn that take rows in the same form.
FAMILIES = {
    "table": ("linear", "boosting", "forest", "network"),
    "text": ("words", "bayes", "letters"),
    "ratings": ("biases", "factors"),
    "series": ("baseline", "naive", "smoothing", "lags"),
}
_STEPS = 20
_LEAST = 1e-7


class Weighed(NamedTuple):
    """Weights in sum 1, and what the mean says of each fold with weights that were found without that fold."""

    weights: tuple[float, ...]
    said: dict[int, Array]


def weighed(said: Sequence[Mapping[int, Array]], truth: Mapping[int, Array], task: str) -> Weighed | None:
    """Weigh models by what they said of folds: by fold, (rows, classes) or values. None where one alone is best."""
    folds = sorted(truth)
    weights = _greedy([np.concatenate([one[fold] for fold in folds]) for one in said], _joined(truth, folds), task)
    if np.count_nonzero(weights) < 2:
        return None
    found = {}
    for fold in folds:
        others = [other for other in folds if other != fold] or folds  # one fold alone is all there is
        own = _greedy([np.concatenate([one[other] for other in others]) for one in said], _joined(truth, others), task)
        found[fold] = _mean(own, [one[fold] for one in said])
    return Weighed(tuple(weights.tolist()), found)


def _joined(truth: Mapping[int, Array], folds: Sequence[int]) -> Array:
    found: Array = np.concatenate([truth[fold] for fold in folds])
    return found


def _mean(weights: Array, said: Sequence[Array]) -> Array:
    found: Array = sum(weight * one.astype(np.float64) for weight, one in zip(weights, said, strict=True) if weight > 0)
    return found.astype(np.float32)


def _greedy(said: Sequence[Array], truth: Array, task: str) -> Array:
    """Add the model that helps most, again and again, each as often as it helps; return the shares (models,)."""
    if task == "classification":  # of probabilities only that of the true class counts
        parts = [one[np.arange(len(truth)), truth].astype(np.float64) for one in said]
    else:
        parts = [one.reshape(len(one)).astype(np.float64) - truth for one in said]
    counts = np.zeros(len(parts))
    total = np.zeros(len(truth))
    best, kept = np.inf, counts.copy()
    for step in range(_STEPS):
        errors = [_error((total + part) / (step + 1), task) for part in parts]
        chosen = int(np.argmin(errors))
        counts[chosen] += 1
        total += parts[chosen]
        if errors[chosen] < best - 1e-12:
            best, kept = errors[chosen], counts.copy()
    shares: Array = kept / kept.sum()
    return shares


def _error(values: Array, task: str) -> float:
    if task == "classification":
        return float(-np.log(np.maximum(values, _LEAST)).mean())
    return float(np.square(values).mean())
