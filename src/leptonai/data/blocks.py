"""Images and tensors as columns: each value is a run of bytes of one size, whose dtype and shape stand beside the field.

Parquet reads such fixed-size binary ten times as fast as lists of numbers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.core.errors import Invalid

IMAGE_CHANNELS = (1, 3, 4)


def block(name: str, values: np.ndarray) -> tuple[pa.Field, pa.Array]:
    """Return (rows, *shape) as a column, without a copy where the array lies in one piece."""
    values = np.ascontiguousarray(values)
    size = values.dtype.itemsize * int(np.prod(values.shape[1:]))
    about = {"dtype": values.dtype.name, "shape": ",".join(map(str, values.shape[1:]))}
    bytes_ = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(values), [None, pa.py_buffer(values)])
    return pa.field(name, pa.binary(size), metadata=about), bytes_


def layout(field: pa.Field) -> tuple[str, tuple[int, ...]] | None:
    """Return dtype and shape of a column of images or tensors; None for a column of single values."""
    about: Mapping[bytes, bytes] = field.metadata or {}
    if b"shape" not in about:
        return None
    return about[b"dtype"].decode(), tuple(int(length) for length in about[b"shape"].split(b","))


def is_image(dtype: str, shape: tuple[int, ...]) -> bool:
    """Say whether arrays of this kind are images: uint8 (height, width, channels)."""
    return dtype == "uint8" and len(shape) == 3 and shape[2] in IMAGE_CHANNELS


def table(columns: Iterable[tuple[pa.Field, Any]]) -> pa.Table:
    """Return a table whose fields keep what is said beside them."""
    fields, arrays = zip(*columns, strict=True)
    return pa.Table.from_arrays(list(arrays), schema=pa.schema(fields))


def as_array(values: pa.ChunkedArray | pa.Array, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a column of images or tensors as one array (rows, *shape); copied only where it lies in pieces."""
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    found = []
    for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
        data = np.frombuffer(chunk.buffers()[1], np.uint8, count=len(chunk) * size, offset=chunk.offset * size)
        found.append(data.view(dtype).reshape(len(chunk), *shape))
    if not found:
        return np.empty((0, *shape), dtype)
    return found[0] if len(found) == 1 else np.concatenate(found)


def array_column(file: str, name: str, array: np.ndarray) -> tuple[pa.Field, pa.Array]:
    """Return one named array as a column: of single values, of images (uint8, two axes or three), or of float32 tensors.

    Raises `Invalid` for arrays that hold anything but numbers, truth values and text.
    """
    kind = array.dtype.kind
    if array.ndim == 1 and kind in "SU":
        words = np.char.decode(array, "utf-8") if kind == "S" else array
        return pa.field(name, pa.large_string()), pa.array(words.tolist(), pa.large_string())
    if array.ndim == 1 and kind == "M":
        return pa.field(name, pa.timestamp("us")), pa.array(array.astype("datetime64[us]"))
    if kind not in "fiub":
        raise Invalid(
            f"{file}: array {name!r} holds {array.dtype} values in {array.ndim} axes, which are not known: use numbers"
        )
    if array.ndim == 1:
        column = pa.array(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))
        return pa.field(name, column.type), column
    if 0 in array.shape[1:]:
        raise Invalid(f"{file}: array {name!r} has the shape {array.shape}: its rows hold nothing, leave it out")
    if array.dtype == np.uint8 and array.ndim == 3:
        array = array[..., None]
    if not is_image(array.dtype.name, array.shape[1:]):
        array = array.astype("float32")
    return block(name, array)
