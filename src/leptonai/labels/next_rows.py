"""What a Run does that picks the rows to label next: where the models doubt most, and far from each other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.stages import FOLDS, Handle, load
from leptonai.labels.spec import PickRows

Array = NDArray[Any]
_TIMES = 5  # so many times the rows wanted are doubtful enough to choose from


def pick_rows(spec: PickRows, handle: Handle) -> dict[str, Any]:
    """Return the numbers of the rows in the version, the most wanted first."""
    judged = load(FOLDS)(spec.train, spec.folds, handle)
    if not len(judged.rest):
        raise Invalid(f"all rows of {spec.data} have a label", errors=[FieldError("data", "rows without a label")])
    doubts = doubt(judged.rest_scores, spec.by)
    pool = np.argsort(-doubts, kind="stable")[: _TIMES * spec.count]
    chosen = pool[spread(judged.inputs(pool), spec.count)]
    return {
        "data": spec.data,
        "target": judged.target,
        "rows": judged.rest[chosen].tolist(),
        "doubt": [round(value, 6) for value in doubts[chosen].tolist()],
    }


def doubt(scores: Array, by: str) -> Array:
    """Return how much a model doubts, (rows,): 1 less the margin between the two likeliest classes, or the entropy in nats."""
    if by == "entropy":
        return np.asarray(-(scores * np.log(np.clip(scores, 1e-12, 1))).sum(axis=1))
    two = np.sort(scores, axis=1)[:, -2:]
    return np.asarray(1 - (two[:, 1] - two[:, 0]))


def spread(x: Array, count: int) -> Array:
    """Return which rows of `x` to take: the first, and then each time the farthest from those taken (Gonzalez 1985)."""
    if len(x) <= count:
        return np.arange(len(x))
    points = np.nan_to_num(x.astype(np.float32))
    points = (points - points.mean(axis=0)) / np.maximum(points.std(axis=0), 1e-6)
    taken = [0]
    away = np.square(points - points[0]).sum(axis=1)
    while len(taken) < count:
        taken.append(int(away.argmax()))
        away = np.minimum(away, np.square(points - points[taken[-1]]).sum(axis=1))
    return np.array(taken)
