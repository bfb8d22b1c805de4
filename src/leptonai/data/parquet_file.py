"""A Parquet file as tables, some rows at a time."""

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.data.bounds import Spelled, check_cells, check_columns
from leptonai.data.plain import plain

_CELLS = 4_000_000  # of one table
_BYTES = 64 << 20  # of one table, as far as the file says
_FOOTER = 64 << 20  # of what the file says of itself, which is unpacked as a whole
_RATIO = 200  # to which a column may unpack, and at least...
_SMALL = 256 << 20  # ...this much is allowed whatever the ratio


def read_parquet(name: str, file: BinaryIO) -> Iterator[pa.Table]:
    """Yield the rows; lists of numbers, all of one length, become tensors. Raises `Invalid` naming the column."""
    size = file.seek(0, os.SEEK_END)
    try:
        _check_footer(name, file, size)
        file.seek(0)
        with pq.ParquetFile(file) as found:
            about = found.metadata
            check_columns(name, about.num_columns)
            check_cells(name, about.num_rows, about.num_columns, size)
            wide = _unpacked(name, about, size)
            words = _repeated(about, found.schema)
        file.seek(0)
        # Text that is stored once and meant often is spelled out some rows at a time.
        with pq.ParquetFile(file, read_dictionary=words) as found:
            spelled = Spelled(name, size)
            each = max(64, min(_CELLS // about.num_columns, int(_BYTES / max(1.0, wide / max(1, about.num_rows)))))
            for batch in found.iter_batches(each):
                for piece in spelled.pieces(pa.Table.from_batches([batch])):
                    yield plain(name, piece)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"{name} is not a Parquet file that can be read: {(str(error).splitlines() or ['it is damaged'])[0][:300]}",
            errors=[FieldError(name, "a Parquet file")],
        ) from error


def _check_footer(name: str, file: BinaryIO, size: int) -> None:
    """Raise `TooLarge` before a footer is read that no table has."""
    if size < 12:
        return
    file.seek(size - 8)
    length = int.from_bytes(file.read(4), "little")
    if _FOOTER < length < size:
        raise TooLarge(
            f"{name} describes itself in {length >> 20:,} MiB, and at most {_FOOTER >> 20} MiB are read: it has too many columns or "
            "row groups, split it",
            errors=[FieldError(name, f"at most {_FOOTER >> 20} MiB")],
        )


def _unpacked(name: str, about: Any, size: int) -> int:
    """Return how many bytes the file says it unpacks to. Raises `TooLarge` naming a column that grows beyond reason."""
    total = 0
    for group in (about.row_group(number) for number in range(about.num_row_groups)):
        for at in range(about.num_columns):
            column = group.column(at)
            total += max(0, column.total_uncompressed_size)
            if column.total_uncompressed_size > max(_SMALL, _RATIO * size):
                raise TooLarge(
                    f"{name}: column {column.path_in_schema!r} unpacks to {column.total_uncompressed_size >> 20:,} MiB, more than "
                    f"{_RATIO} times the file: write it again without compression if that is right",
                    errors=[FieldError(column.path_in_schema, f"at most {_RATIO} times the file")],
                )
    return total


def _repeated(about: Any, schema: Any) -> list[str]:
    """Return the columns of text that are stored as a dictionary and indices, somewhere in the file."""
    found = []
    for at in range(about.num_columns):
        column = schema.column(at)
        if column.physical_type == "BYTE_ARRAY" and column.max_repetition_level == 0:
            groups = (about.row_group(group).column(at) for group in range(about.num_row_groups))
            if any(group.has_dictionary_page for group in groups):
                found.append(column.path)
    return found
