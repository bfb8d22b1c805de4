"""An Arrow file (IPC, Feather) as tables, one record batch at a time."""

import os
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.bounds import Spelled, check_cells, check_columns
from leptonai.data.plain import plain


def read_arrow(name: str, file: BinaryIO) -> Iterator[pa.Table]:
    """Yield the rows of a file in Arrow's file or stream format. Raises `Invalid` naming the column."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    spelled, rows = Spelled(name, size), 0
    try:
        for batch in _batches(file):
            check_columns(name, batch.num_columns)
            rows += batch.num_rows
            check_cells(name, rows, batch.num_columns, size)
            batch.validate(full=True)  # offsets that lead out of the data are found here, and not by a crash
            for piece in spelled.pieces(pa.Table.from_batches([batch])):
                yield plain(name, piece)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"{name} is not an Arrow file that can be read: {(str(error).splitlines() or ['it is damaged'])[0][:300]}",
            errors=[FieldError(name, "an Arrow file")],
        ) from error


def _batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    if file.read(6) == b"ARROW1":
        batches = pa.ipc.open_file(file)
        for number in range(batches.num_record_batches):
            yield batches.get_batch(number)
    else:
        file.seek(0)
        yield from pa.ipc.open_stream(file)
