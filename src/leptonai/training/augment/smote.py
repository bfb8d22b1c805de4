"""Made rows of the rarer classes of a table (SMOTE), by imbalanced-learn, on rows that are encoded and in memory."""

from collections.abc import Mapping, Sequence
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
    if encoding.task != "classification":
        raise Invalid("augment: smote evens out classes, and the target is a number: leave it out")
    _enough(step, y, encoding.classes)
    _whole(x, encoding)
    packed, categorical = _packed(x, encoding)
    made, labels = _made(step, packed, categorical, y, seed)
    return np.concatenate([x, _unpacked(made, encoding)]), np.concatenate([y, labels])


def smote_columns(
    step: Smote, numbers: Mapping[str, Array], codes: Mapping[str, Array], y: Array, classes: Sequence[Any], seed: int
) -> tuple[dict[str, Array], Array]:
    """Return made rows by column, and their classes: of numbers (rows,), which count by their deviation, and of codes of categories.

    Rows whose class is -1, for none, are left out of it. Raises `Invalid` where a class has too few rows, or a number is missing.
    """
    known = y >= 0
    _enough(step, y[known], classes)
    given = {name: values[known].astype(np.float64) for name, values in numbers.items()}
    for name, values in given.items():
        if missing := int(np.isnan(values).sum()):
            raise _lacks(name, missing)
    scales = {name: (values.mean(), values.std() or 1.0) for name, values in given.items()}
    scaled = [(given[name] - mean) / std for name, (mean, std) in scales.items()]
    packed = np.stack([*scaled, *(values[known].astype(np.float64) for values in codes.values())], axis=1)
    made, labels = _made(step, packed, list(range(len(numbers), packed.shape[1])), y[known], seed)
    found = {name: made[:, at] * std + mean for at, (name, (mean, std)) in enumerate(scales.items())}
    found |= {name: np.rint(made[:, at]) for at, name in enumerate(codes, len(numbers))}
    whole = {**numbers, **codes}
    return {name: _as(values, whole[name].dtype) for name, values in found.items()}, labels


def _as(values: Array, dtype: Any) -> Array:
    return np.rint(values).astype(dtype) if dtype.kind == "i" else values.astype(dtype)


def _made(step: Smote, packed: Array, categorical: list[int], y: Array, seed: int) -> tuple[Array, Array]:
    """Return made rows, and their classes."""
    try:
        from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC
    except ImportError as error:
        raise MissingExtra("augment: smote needs imbalanced-learn:  pip install 'lepton-ai-sdk[labels]'") from error
    given = {"random_state": seed, "k_neighbors": step.neighbours}
    if not categorical:
        maker = SMOTE(**given)
    elif len(categorical) == packed.shape[1]:
        maker = SMOTEN(**given)
    else:
        maker = SMOTENC(categorical, **given)
    made, labels = maker.fit_resample(packed, y)
    return np.asarray(made[len(packed) :]), np.asarray(labels[len(packed) :], y.dtype)


def _enough(step: Smote, y: Array, classes: Sequence[Any]) -> None:
    counts = np.bincount(y, minlength=len(classes))
    few = [name for name, count in zip(classes, counts.tolist(), strict=True) if 0 < count <= step.neighbours]
    if few:
        raise Invalid(
            f"augment: smote makes rows between {step.neighbours} neighbours of a class, and class {few[0]!r} has only as many rows "
            "or fewer: ask for fewer neighbours, or bring more rows",
            errors=[FieldError("augment.smote.neighbours", f"fewer than the rows of class {few[0]!r}")],
        )


def _whole(x: Array, encoding: Encoding) -> None:
    at = 0
    for feature in encoding.features:
        missing = int(np.isnan(x[:, at : at + width(feature)]).any(axis=1).sum())
        at += width(feature)
        if missing:
            raise _lacks(feature.column, missing)


def _lacks(column: str, rows: int) -> Invalid:
    return Invalid(
        f"augment: smote needs all numbers, and column {column!r} is empty in {rows} rows: fill them in first",
        errors=[FieldError(column, f"missing in {rows} rows")],
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
