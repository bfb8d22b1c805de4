"""Arrays between a plane and its workers: numbers as raw bytes behind the JSON header of a message, text inside it."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from leptonai.core.errors import Corrupt
from leptonai.core.signature import FeatureType, TensorSpec
from leptonai.serving import frames

TEXT = "text"
_KINDS = "?biuf"  # of the NumPy types that go over: no objects, no dates
_NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT64": np.int64,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": object,
}


def pack(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    """Return header and parts for arrays of numbers and of text. The parts are views of the arrays where that is possible."""
    said: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for name, found in arrays.items():
        shape = list(found.shape)
        if found.dtype == np.object_:
            said.append({"name": name, "dtype": TEXT, "shape": shape, "values": found.ravel().tolist()})
        else:
            said.append({"name": name, "dtype": found.dtype.str, "shape": shape})
            flat = found if found.flags.c_contiguous else np.ascontiguousarray(found)
            parts.append(flat.data.cast("B") if flat.size else b"")
    return {"arrays": said}, parts


def unpack(frame: frames.Frame) -> dict[str, Any]:
    """Return the arrays of a message; those of numbers are views of its bytes. Raises `Corrupt` for what is not right.

    A worker runs code of its user's, so what it says is believed only as far as it was checked: no type but plain numbers and
    text, and no shape for which the bytes did not come.
    """
    try:
        parts = iter(frame.parts)
        return {str(about["name"]): _array(about, parts) for about in frame.header["arrays"]}
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, OverflowError) as error:
        raise Corrupt("a message of a worker holds no arrays that can be read") from error


def example(spec: TensorSpec, rows: int) -> Any:
    """Return a made-up batch of an input, which a model must be able to compute: zeros, empty texts, or its first category."""
    shape = (rows, *(1 if size == -1 else size for size in spec.shape[1:]))
    text = spec.datatype == "BYTES" or spec.type is FeatureType.TEXT
    known = spec.type is FeatureType.CATEGORY and spec.categories
    fill: Any = (spec.categories[0] if spec.categories else "") if text or known else 0
    return np.full(shape, fill, _NUMPY[spec.datatype])


def _array(about: Mapping[str, Any], parts: Any) -> Any:
    shape = [int(size) for size in about["shape"]]
    if min(shape, default=0) < 0:
        raise ValueError("a negative size")
    if about["dtype"] == TEXT:
        values = about["values"]
        if len(values) != prod(shape) or not all(type(value) is str for value in values):
            raise ValueError("not as many texts as the shape says")
        made = np.empty(len(values), object)
        made[:] = values
        return made.reshape(shape)
    dtype = np.dtype(str(about["dtype"]))
    if dtype.kind not in _KINDS:
        raise ValueError("not a type of numbers")
    return np.frombuffer(next(parts), dtype).reshape(shape)
