"""Rows as people have them become the inputs of a model, checked against its signature; and its outputs become answers."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from math import prod
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import FeatureType, Signature, TensorSpec
from leptonai.serving.plane import audio, images
from leptonai.serving.plane.values import Misfit, array, flat, say

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 5  # fields that one message names


class Columns:
    """Turns rows into inputs, for one signature."""

    def __init__(self, signature: Signature):
        self._make = {spec.name: _maker(spec) for spec in signature.inputs}
        self._names = self._make.keys()

    def inputs(self, rows: Any) -> dict[str, Any]:
        """Return arrays by input name. Raises `Invalid` that names the row (from 1) and the field."""
        if type(rows) is not list or not rows:
            right = "a list of at least one object, each with a value for every column"
            raise Invalid(f"'rows' must be {right}", errors=[FieldError("rows", right)])
        for number, row in enumerate(rows, 1):
            if type(row) is not dict or row.keys() != self._names:
                raise self._wrong_row(number, row)
        made = {}
        for name, make in self._make.items():
            try:
                made[name] = make([row[name] for row in rows])
            except Misfit as error:
                where = f"row {error.index + 1}, column {name!r}"
                raise Invalid(f"{where}: {error.message}", errors=[FieldError(where, error.message)]) from None
        return made

    def _wrong_row(self, number: int, row: Any) -> Invalid:
        if type(row) is not dict:
            right = "an object with a value for every column"
            return Invalid(f"row {number} must be {right}, not {say(row)}", errors=[FieldError(f"row {number}", right)])
        wrong = [
            (name, "is missing (write null for a value that is not known)") for name in self._names if name not in row
        ]
        wrong += [(name[:100], "is not a column of the model") for name in row if name not in self._names]
        said = "; ".join(f"column {name!r} {why}" for name, why in wrong[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        fields = [FieldError(f"row {number}, column {name!r}", why) for name, why in wrong[: 10 * _SHOWN]]
        return Invalid(f"row {number}: {said}{more}", errors=fields)


def _maker(spec: TensorSpec) -> Callable[[list[Any]], Any]:
    if spec.type is FeatureType.IMAGE:
        return lambda values: np.stack([_each(i, _image, value, spec) for i, value in enumerate(values)])
    if spec.type is FeatureType.AUDIO:
        return lambda values: np.stack([_each(i, _sound, value, spec) for i, value in enumerate(values)])
    if len(spec.shape) > 1:
        return lambda values: np.stack([_each(i, _tensor, value, spec) for i, value in enumerate(values)])
    if spec.type is FeatureType.DATETIME:
        gap = np.nan if spec.datatype.startswith("FP") else ...
        return lambda values: array([_each(i, _microseconds, v) for i, v in enumerate(values)], spec.datatype, gap)
    missing = _missing(spec)
    if spec.datatype == "INT64":
        return lambda values: array([_whole(value) for value in values], "INT64", missing)
    return lambda values: array(values, spec.datatype, missing)


def _missing(spec: TensorSpec) -> Any:
    """Return what a missing value is to the encoder of the model: NaN, or a category that there is not."""
    if spec.datatype.startswith("FP"):
        return np.nan
    if spec.datatype == "BYTES":
        word = ""
        while word in spec.categories:
            word += "?"
        return word
    if spec.datatype == "INT64" and spec.type is FeatureType.CATEGORY:
        return next(number for number in range(0, -len(spec.categories) - 1, -1) if number not in spec.categories)
    return ...


def _each(index: int, make: Callable[..., Any], value: Any, *more: Any) -> Any:
    try:
        return make(value, *more)
    except Misfit as error:
        raise Misfit(index, error.message) from None
    except Invalid as error:
        raise Misfit(index, error.message) from None


def _whole(value: Any) -> Any:
    """JSON of some languages has 3.0 where a whole number is meant."""
    return int(value) if type(value) is float and value.is_integer() and abs(value) < 2**53 else value


def _microseconds(value: Any) -> Any:
    if type(value) is not str:
        return value
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise Misfit(0, f"{say(value)} is given where a date and time such as 2024-05-31T12:00:00 is needed") from None
    return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _image(value: Any, spec: TensorSpec) -> Any:
    if type(value) is str:
        return images.decode(images.from_base64(value), spec)
    height, width, *channels = spec.shape[1:]
    shape = (height, width) if channels == [1] and _rank(value) == 2 else spec.shape[1:]
    return array(flat(value, shape), "UINT8").reshape(spec.shape[1:])


def _sound(value: Any, spec: TensorSpec) -> Any:
    if type(value) is str:
        return audio.decode(images.from_base64(value), spec)
    return _tensor(value, spec)


def _tensor(value: Any, spec: TensorSpec) -> Any:
    shape = spec.shape[1:]
    if -1 in shape:
        raise Misfit(0, "is of a size that varies, which rows cannot hold: use /v2/models/NAME/infer")
    values = flat(value, shape)
    return array(values, spec.datatype).reshape(shape) if prod(shape) else array(values, spec.datatype)


def _rank(value: Any) -> int:
    rank = 0
    while type(value) is list and rank < 5:
        rank, value = rank + 1, value[0] if value else None
    return rank


class Answers:
    """Turns outputs into one answer for each row, for one signature."""

    def __init__(self, signature: Signature):
        self._task = signature.task
        self._names = [spec.name for spec in signature.outputs]
        self._first = next(iter(self._names), "")
        self._second = self._names[1] if len(self._names) > 1 else None
        # Of several targets each output of probabilities says the classes they are of.
        self._of = {spec.name: list(map(str, spec.categories)) for spec in signature.outputs if len(spec.shape) == 2}
        classes = signature.classes or (signature.outputs[0].categories if signature.outputs else ())
        self._classes = [str(name) for name in classes]

    def predictions(self, outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return ``{"label", "probabilities": {class: p}}`` for each row, ``{"prediction"}``, or the outputs by name."""
        if self._task == "custom":
            columns = [self._column(name, outputs[name]) for name in self._names]
            return [dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True)]
        first = outputs[self._first]
        if self._task == "regression":
            if first.ndim == 2 and first.shape[1] == 1:  # one number a row is a number, not a list of one
                first = first[:, 0]
            return [{"prediction": value} for value in first]
        labels = first.tolist()
        if self._second is None:
            return [{"label": label} for label in labels]
        return [
            {"label": label, "probabilities": dict(zip(self._classes, row, strict=False))}
            for label, row in zip(labels, outputs[self._second], strict=True)
        ]

    def _column(self, name: str, values: Any) -> list[Any]:
        """Return an output as a value for each row: a row of probabilities by class, where the classes are known."""
        if classes := self._of.get(name):
            return [dict(zip(classes, row, strict=False)) for row in values]
        return list(values)
