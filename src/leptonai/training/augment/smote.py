"""Made rows of the rarer classes of a table (SMOTE), by imbalanced-learn, on rows that are encoded and in memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid, MissingExtra
from leptonai.training.augment.spec import Smote
from leptonai.training.encoder import width
from leptonai.training.spec import Encoding

Array = NDArray[Any]


def smote(step: Smote, x: Array, y: Array, encoding: Encoding, seed: int) -> tuple[Array, Array]:
    """Return the rows with made ones after them. Categories of a made row are those most of its neighbours have.

    Raises `Invalid` where a class has too few rows, or a number is missing.
    """
    try:
        from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC
    except ImportError as error:
        raise MissingExtra("augment: smote needs imbalanced-learn:  pip install 'lepton-ai-sdk[labels]'") from error
    if encoding.task != "classification":
        raise Invalid("augment: smote evens out classes, and the target is a number: leave it out")
    _check(step, x, y, encoding)
    packed, categorical = _packed(x, encoding)
    given = {"random_state": seed, "k_neighbors": step.neighbours}
    if not categorical:
        maker = SMOTE(**given)
    elif len(categorical) == packed.shape[1]:
        maker = SMOTEN(**given)
    else:
        maker = SMOTENC(categorical, **given)
    made, labels = maker.fit_resample(packed, y)
    fresh = _unpacked(np.asarray(made[len(x) :]), encoding)
    return np.concatenate([x, fresh]), np.asarray(labels, y.dtype)


def _check(step: Smote, x: Array, y: Array, encoding: Encoding) -> None:
    counts = np.bincount(y, minlength=len(encoding.classes))
    few = [name for name, count in zip(encoding.classes, counts.tolist(), strict=True) if 0 < count <= step.neighbours]
    if few:
        raise Invalid(
            f"augment: smote makes rows between {step.neighbours} neighbours of a class, and class {few[0]!r} has only as many rows "
            "or fewer: ask for fewer neighbours, or bring more rows",
            errors=[FieldError("augment.smote.neighbours", f"fewer than the rows of class {few[0]!r}")],
        )
    at = 0
    for feature in encoding.features:
        missing = int(np.isnan(x[:, at : at + width(feature)]).any(axis=1).sum())
        at += width(feature)
        if missing:
            raise Invalid(
                f"augment: smote needs all numbers, and column {feature.column!r} is empty in {missing} rows: fill them in first",
                errors=[FieldError(feature.column, f"missing in {missing} rows")],
            )


def _packed(x: Array, encoding: Encoding) -> tuple[Array, list[int]]:
    """Return one column for each feature, and which of them are categories."""
    columns, categorical, at = [], [], 0
    for number, feature in enumerate(encoding.features):
        part = x[:, at : at + width(feature)]
        at += width(feature)
        if feature.op == "onehot":  # 0 for none of them
            part = np.where(part.any(axis=1), part.argmax(axis=1) + 1, 0)[:, None]
        if feature.op in ("onehot", "index", "flag"):
            categorical.append(number)
        columns.append(part)
    return np.concatenate(columns, axis=1), categorical


def _unpacked(made: Array, encoding: Encoding) -> Array:
    columns = []
    for number, feature in enumerate(encoding.features):
        part = made[:, number : number + 1]
        if feature.op == "onehot":
            part = np.rint(part) == np.arange(1, len(feature.categories) + 1)
        columns.append(part.astype(np.float32))
    return np.concatenate(columns, axis=1)
