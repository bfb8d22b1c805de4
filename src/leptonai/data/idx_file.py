"""IDX files, as MNIST and its kin are published: each holds one array, and the arrays of one dataset lie side by side.

Format: two zero bytes, a code for the type, the number of axes, their lengths, then the values, all big-endian.
"""

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Store
from leptonai.data.blocks import array_column, table
from leptonai.data.parts import opened
from leptonai.data.spec import SourceFile

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_BYTES = 16 << 20  # of one table
_RATIO = 1_100  # to which gzip can pack, about; and at least...
_SMALL = 64 << 20  # ...this much is believed of any packed file
_WIDEST = 256 << 20  # bytes of one row


class _Array(NamedTuple):
    name: str
    column: str
    shape: tuple[int, ...]
    dtype: np.dtype
    file: BinaryIO


def read_idx(files: Sequence[SourceFile], blobs: Store) -> Iterator[tuple[pa.Table, str]]:
    """Yield tables, each with the name of a file: those that belong together are read side by side, sets one after the other.

    Files belong together when their names differ in the words "images" and "labels" only. Raises `Invalid` naming the file.
    """
    sets: dict[str, list[SourceFile]] = {}
    for file in files:
        sets.setdefault(_key(file.name), []).append(file)
    for together in sets.values():
        arrays = [_open(file, blobs) for file in together]
        try:
            yield from _side_by_side(arrays)
        except (OSError, EOFError, zlib.error) as error:
            raise _wrong(arrays[0].name, str(error)) from error
        finally:
            for array in arrays:
                array.file.close()


def _side_by_side(arrays: list[_Array]) -> Iterator[tuple[pa.Table, str]]:
    rows = arrays[0].shape[0]
    for it in arrays[1:]:
        if it.shape[0] != rows:
            raise Invalid(
                f"{it.name} holds {it.shape[0]:,} rows, and {arrays[0].name} holds {rows:,}: they belong together and must have as many",
                errors=[FieldError(it.name, f"{rows} rows")],
            )
        if it.column in {other.column for other in arrays if other is not it}:
            raise Invalid(
                f"{it.name} and {arrays[0].name} would be one column: put 'images' and 'labels' into their names"
            )
    width = sum(math.prod(it.shape[1:]) * max(4, it.dtype.itemsize) for it in arrays)
    each = max(1, _BYTES // max(1, width))
    for start in range(0, rows, each):
        count = min(each, rows - start)
        yield table(array_column(it.name, it.column, _rows(it, count)) for it in arrays), arrays[0].name


def _rows(it: _Array, count: int) -> np.ndarray:
    size = count * math.prod(it.shape[1:]) * it.dtype.itemsize
    data = it.file.read(size)
    if len(data) < size:
        raise _wrong(it.name, "it ends early")
    found = np.frombuffer(data, it.dtype).reshape(count, *it.shape[1:])
    return found.astype(it.dtype.newbyteorder("="))


def _open(file: SourceFile, blobs: Store) -> _Array:
    source = cast(BinaryIO, opened(file, blobs))
    if file.name.lower().endswith(".gz"):
        source = cast(BinaryIO, gzip.GzipFile(fileobj=source))
    try:
        magic = source.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 4:
            raise _wrong(file.name, "its first bytes are not those of one")
        shape = tuple(int(length) for length in np.frombuffer(source.read(4 * magic[3]), ">u4"))
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong(file.name, str(error)) from error
    if len(shape) != magic[3] or 0 in shape:
        raise _wrong(file.name, "it holds nothing")
    claimed = math.prod(shape) * np.dtype(_TYPES[magic[2]]).itemsize
    most = max(_SMALL, file.size * _RATIO) if file.name.lower().endswith(".gz") else file.size
    if claimed > most or claimed // shape[0] > _WIDEST:
        raise _wrong(file.name, f"it claims {claimed:,} bytes of {shape[0]:,} rows, which it cannot hold")
    column = "label" if "label" in file.name.lower() else "image" if len(shape) in (3, 4) else "values"
    return _Array(file.name, column, shape, np.dtype(_TYPES[magic[2]]), source)


def _key(name: str) -> str:
    low = name.lower()
    for word in ("images", "labels", "image", "label", "idx3", "idx1", "idx4", "idx2"):
        low = low.replace(word, "")
    return low


def _wrong(name: str, why: str) -> Invalid:
    return Invalid(f"{name} is not an IDX file that can be read: {why}", errors=[FieldError(name, "an IDX file")])
