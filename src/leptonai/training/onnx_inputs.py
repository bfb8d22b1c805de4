"""What a published model takes: one input for each column, named by the column, with a batch in front."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto

from leptonai.core.errors import Unsupported
from leptonai.core.signature import FeatureType, TensorSpec
from leptonai.training.spec import Encoding, FeatureCode


class Kind(NamedTuple):
    """One datatype, in the words of the Open Inference Protocol, of ONNX and of NumPy."""

    datatype: str
    onnx: int
    numpy: Any


_BYTES = Kind("BYTES", TensorProto.STRING, object)
_INT64 = Kind("INT64", TensorProto.INT64, np.int64)
_FP64 = Kind("FP64", TensorProto.DOUBLE, np.float64)
_FP32 = Kind("FP32", TensorProto.FLOAT, np.float32)
_BOOL = Kind("BOOL", TensorProto.BOOL, np.bool_)
_UINT8 = Kind("UINT8", TensorProto.UINT8, np.uint8)


def kind(feature: FeatureCode) -> Kind:
    """Return the datatype of a column's input. A column of whole numbers that may be missing is float64."""
    if feature.type in (FeatureType.CATEGORY, FeatureType.TEXT):
        words = feature.dtype in ("str", "object") if not feature.categories else isinstance(feature.categories[0], str)
        return _BYTES if words else _INT64
    if feature.type == FeatureType.IMAGE:
        return _UINT8
    if feature.type in (FeatureType.TENSOR, FeatureType.AUDIO):
        return _FP32
    if feature.op == "flag":
        return _BOOL
    if feature.type == FeatureType.NUMBER or feature.dtype.startswith("float"):
        return _FP64
    return _INT64


def specs(encoding: Encoding) -> tuple[TensorSpec, ...]:
    """Return the inputs of the model, in the order of the features. Raises `Unsupported` for a column without a name."""
    if any(not feature.column for feature in encoding.features):
        raise Unsupported("a column without a name cannot be an input of a published model: give it one")
    return tuple(
        TensorSpec(
            name=feature.column,
            datatype=kind(feature).datatype,
            shape=(-1, *feature.shape),
            type=FeatureType(feature.type),
            categories=feature.categories,
            rate=feature.rate,
        )
        for feature in encoding.features
    )


def feed(encoding: Encoding, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a batch as a Reader gives it into the inputs of the model.

    A missing category (None) becomes a value that is none of the column's categories: both are coded 0. A missing truth
    value becomes false.
    """
    return {feature.column: _column(feature, batch[feature.column]) for feature in encoding.features}


def _column(feature: FeatureCode, values: Any) -> Any:
    to = kind(feature)
    if to is _BOOL:
        return np.asarray(values) == True  # noqa: E712  (None, too, is not true)
    if feature.type not in (FeatureType.CATEGORY, FeatureType.TEXT):
        return np.ascontiguousarray(values, dtype=to.numpy)
    missing = unseen(feature.categories, to.datatype)
    known = [missing if value is None or value != value else value for value in values]
    return np.array([str(value) for value in known] if to is _BYTES else known, dtype=to.numpy)


def unseen(categories: tuple[str | int, ...], datatype: str) -> str | int:
    """Return a value that is no category: how a missing one is written where there is no word for missing."""
    if datatype == "BYTES":
        word = ""
        while word in categories:
            word += "?"
        return word
    number = 0
    while number in categories:
        number -= 1
    return number
