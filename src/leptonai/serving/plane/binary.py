"""Tensors as raw bytes: the binary extension of the Open Inference Protocol. Little endian, row-major, nothing is copied.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import TensorSpec
from leptonai.serving.plane.values import DATATYPES

_LENGTH = struct.Struct("<I")


def array(data: memoryview, shape: Sequence[int], spec: TensorSpec, where: str) -> Any:
    """Return the tensor that the bytes are, as a view of them. Raises `Invalid` when they are too few or too many."""
    if spec.datatype == "BYTES":
        return _texts(data, prod(shape), where).reshape(shape)
    dtype = np.dtype(DATATYPES[spec.datatype].numpy)
    if len(data) != prod(shape) * dtype.itemsize:
        raise _wrong(where, f"has {len(data)} bytes, and its shape {list(shape)} needs {prod(shape) * dtype.itemsize}")
    if spec.datatype == "BOOL":
        found = np.frombuffer(data, np.uint8)
        if found.max() > 1:
            raise _wrong(where, "holds a byte that is neither 0 nor 1, where true or false is needed")
    return np.frombuffer(data, dtype).reshape(shape)


def dump(found: Any) -> bytes:
    """Return an array as bytes."""
    if found.dtype != np.object_:
        return np.ascontiguousarray(found).tobytes()
    texts = [str(text).encode() for text in found.ravel()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def _texts(data: memoryview, count: int, where: str) -> Any:
    """Each element is its length in four bytes, and itself."""
    made = np.empty(count, object)
    at = 0
    for index in range(count):
        if at + _LENGTH.size > len(data):
            raise _wrong(where, f"ends before element {index} of {count}")
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + size > len(data):
            raise _wrong(where, f"element {index} announces {size} bytes, and {len(data) - at} are left")
        try:
            made[index] = str(data[at : at + size], "utf-8")
        except UnicodeDecodeError:
            raise _wrong(where, f"element {index} is not text in UTF-8") from None
        at += size
    if at != len(data):
        raise _wrong(where, f"has {len(data) - at} bytes more than its {count} elements")
    return made


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}", errors=[FieldError(field, message)])
