"""Classes of unequal size: weights for them, and epochs in which each comes equally often."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.training.spec import Encoding

_SALT = 0xBA1A  # so that these draws are not those of the shuffling


def weights(asked: str | Mapping[str, float], encoding: Encoding, labels: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the weight of each class. "balanced": rows / (classes · rows of the class), so that all weigh the same together."""
    names = [str(name) for name in encoding.classes]
    if not isinstance(asked, str):
        if strange := [name for name in asked if name not in names]:
            shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
            raise Invalid(
                f"class_weights: {encoding.target} has no class {strange[0]!r}; it has {shown}",
                errors=[FieldError(f"learning.class_weights.{strange[0]}", f"one of {shown}")],
            )
        return tuple(float(asked.get(name, 1.0)) for name in names)
    counts = np.bincount(labels[labels >= 0], minlength=len(names))
    present = max(1, int((counts > 0).sum()))
    return tuple(float(counts.sum() / (present * count)) if count else 0.0 for count in counts)


def even_order(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return as many row numbers as there are rows, each class equally often, in another order in each epoch.

    Rows of a rare class come several times, each as often as the others; of a frequent one a part comes.
    """
    rng = np.random.default_rng([seed, epoch, _SALT])
    classes = [np.flatnonzero(labels == found) for found in np.unique(labels[labels >= 0])]
    shares = [len(labels) // len(classes) + (number < len(labels) % len(classes)) for number in range(len(classes))]
    drawn = []
    for rows, wanted in zip(classes, shares, strict=True):
        rounds = [rng.permutation(rows) for _ in range(math.ceil(wanted / len(rows)))]
        drawn.append(np.concatenate(rounds)[:wanted] if rounds else rows[:0])
    order = np.concatenate(drawn)
    return order[rng.permutation(len(order))]
