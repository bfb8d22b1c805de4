"""An NPZ file as a table: its arrays side by side. What is in it is never unpickled."""

import io
import math
import zipfile
import zlib

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.data.blocks import array_column, table

MAX_RATIO = 1000  # of a compressed file: images of few colours pack well; and at least...
MAX_SMALL = 1 << 30  # ...this much is allowed whatever the ratio


def read_npz(name: str, data: bytes) -> pa.Table:
    """Return the arrays of the file as columns; the first axis is the rows. Raises `Invalid` naming the array."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check(name, archive, len(data))
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise Invalid(
            f"{name} is not an NPZ file that can be read: {str(error).splitlines()[0]}",
            errors=[FieldError(name, "an NPZ file of plain arrays")],
        ) from error
    if not found:
        raise Invalid(f"{name} holds no array: there is no data in it", errors=[FieldError(name, "no arrays")])
    if scalar := [key for key, array in found.items() if array.ndim == 0]:
        raise Invalid(f"{name}: array {scalar[0]!r} is a single value and has no rows: leave it out")
    counts = {key: len(array) for key, array in found.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key} {count:,}" for key, count in counts.items())
        raise Invalid(
            f"{name}: its arrays have different numbers of rows ({listed}): the first axis of all must be the same",
            errors=[FieldError(key, f"{count} rows") for key, count in counts.items()],
        )
    return table(array_column(name, key, array) for key, array in found.items())


def _check(name: str, archive: zipfile.ZipFile, size: int) -> None:
    """Compare what each array claims to be with what is there, before any memory is taken for it."""
    limit, total = max(MAX_SMALL, size * MAX_RATIO), 0
    for member in archive.infolist():
        total += member.file_size
        if total > limit:
            raise TooLarge(f"{name} unpacks to more than {limit >> 20:,} MiB: save it without compression")
        if not member.filename.endswith(".npy"):
            raise Invalid(f"{name} holds {member.filename!r}, which is no array: save it with numpy.savez")
        with archive.open(member) as file:
            version = npy.read_magic(file)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = header(file)
            key = member.filename.removesuffix(".npy")
            if dtype.hasobject:
                raise Invalid(
                    f"{name}: array {key!r} holds Python objects, which are never loaded: make it an array of numbers or text",
                    errors=[FieldError(key, "numbers or text")],
                )
            if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
                raise Invalid(f"{name}: array {key!r} is not as long as its shape {shape} says: save it again")
