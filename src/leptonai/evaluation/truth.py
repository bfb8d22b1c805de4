"""What a model should have said, as numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.evaluation.probes import Subject

Array = NDArray[Any]


def truth_of(values: Any, subject: Subject, where: str) -> Array:
    """Return class numbers, or values. Raises `Invalid` for a class the model does not know, or a missing value."""
    if subject.task != "classification":
        found = np.asarray(values, dtype=np.float64)
        if not np.isfinite(found).all():
            bad = int(np.count_nonzero(~np.isfinite(found.reshape(len(found), -1)).all(axis=1)))
            raise Invalid(
                f"the target {subject.target!r} is empty or infinite in {bad} rows of {where}: remove or correct them"
            )
        return found
    return _numbers(np.asarray(values).tolist(), subject, where)


def _numbers(values: Sequence[Any], subject: Subject, where: str) -> Array:
    number = {name: place for place, name in enumerate(subject.classes)}
    found = np.fromiter((number.get(value, -1) for value in values), dtype=np.int64, count=len(values))
    if (found < 0).any():
        strange = values[int(np.argmax(found < 0))]
        listed = ", ".join(map(str, subject.classes[:20]))
        raise Invalid(
            f"the target {subject.target!r} of {where} has the value {strange!r}, which is none of the classes learnt: {listed}",
            errors=[FieldError(subject.target, f"one of {listed}")],
        )
    return found
