"""An NPZ file as tables, some rows at a time: its arrays side by side. What is in it is never unpickled."""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.data.blocks import array_column, table

MAX_RATIO = 1000  # of a compressed file: images of few colours pack well; and at least...
MAX_SMALL = 1 << 30  # ...this much is allowed whatever the ratio
_BYTES = 32 << 20  # of one table
_WRONG = (
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, OSError, EOFError, ValueError, RuntimeError, TypeError, SyntaxError,
)  # fmt: skip


class _Array(NamedTuple):
    """An array of the file, open at its first row."""

    key: str
    shape: tuple[int, ...]
    dtype: Any
    by_column: bool
    file: IO[bytes]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * int(self.dtype.itemsize)

    @property
    def wide(self) -> int:
        """Bytes of a row as a tensor of float32, which small numbers become."""
        return max(self.row_bytes, 4 * math.prod(self.shape[1:]))


def read_npz(name: str, file: BinaryIO, size: int) -> Iterator[pa.Table]:
    """Yield the arrays of the file, of `size` bytes, as columns; the first axis is the rows. Raises `Invalid` naming the array."""
    try:
        with zipfile.ZipFile(file) as archive:
            arrays = list(_open(name, archive, size))
            _check(name, arrays)
            whole = {it.key: _rest(it) for it in arrays if it.by_column}
            each = max(1, _BYTES // max(1, sum(it.wide for it in arrays)))
            for start in range(0, arrays[0].shape[0], each):
                stop = min(start + each, arrays[0].shape[0])
                yield table(
                    array_column(name, it.key, whole[it.key][start:stop] if it.by_column else _rows(it, stop - start))
                    for it in arrays
                )
    except _WRONG as error:
        raise Invalid(
            f"{name} is not an NPZ file that can be read: {(str(error).splitlines() or ['it is damaged'])[0][:300]}",
            errors=[FieldError(name, "an NPZ file of plain arrays")],
        ) from error


def _rows(it: _Array, count: int) -> np.ndarray:
    data = it.file.read(count * it.row_bytes)
    if len(data) < count * it.row_bytes:
        raise EOFError(f"array {it.key!r} ends early")
    return np.frombuffer(data, it.dtype).reshape(count, *it.shape[1:])


def _rest(it: _Array) -> np.ndarray:
    return np.frombuffer(it.file.read(), it.dtype).reshape(it.shape, order="F")


def _open(name: str, archive: zipfile.ZipFile, size: int) -> Iterator[_Array]:
    """Open each array, after what it claims to be was compared with what is there: no memory is taken before."""
    limit, total = max(MAX_SMALL, size * MAX_RATIO), 0
    for member in archive.infolist():
        total += member.file_size
        if total > limit:
            raise TooLarge(f"{name} unpacks to more than {limit >> 20:,} MiB: save it without compression")
        if not member.filename.endswith(".npy"):
            raise Invalid(f"{name} holds {member.filename!r}, which is no array: save it with numpy.savez")
        file = archive.open(member)
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = header(file)
        key = member.filename.removesuffix(".npy")
        if dtype.hasobject:
            raise Invalid(
                f"{name}: array {key!r} holds Python objects, which are never loaded: make it an array of numbers or text",
                errors=[FieldError(key, "numbers or text")],
            )
        if not dtype.itemsize or 0 in shape[1:]:
            raise Invalid(
                f"{name}: array {key!r} has the shape {shape} of {dtype}: its rows hold nothing, leave it out",
                errors=[FieldError(key, "rows that hold something")],
            )
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise Invalid(f"{name}: array {key!r} is not as long as its shape {shape} says: save it again")
        yield _Array(key, shape, dtype, by_column and len(shape) > 1, file)


def _check(name: str, arrays: list[_Array]) -> None:
    if not arrays:
        raise Invalid(f"{name} holds no array: there is no data in it", errors=[FieldError(name, "no arrays")])
    if scalar := [it.key for it in arrays if not it.shape]:
        raise Invalid(f"{name}: array {scalar[0]!r} is a single value and has no rows: leave it out")
    counts = {it.key: it.shape[0] for it in arrays}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key} {count:,}" for key, count in counts.items())
        raise Invalid(
            f"{name}: its arrays have different numbers of rows ({listed}): the first axis of all must be the same",
            errors=[FieldError(key, f"{count} rows") for key, count in counts.items()],
        )
