"""An Arrow file (IPC, Feather) as tables, one record batch at a time."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.plain import plain


def read_arrow(name: str, file: BinaryIO) -> Iterator[pa.Table]:
    """Yield the rows of a file in Arrow's file or stream format. Raises `Invalid` naming the column."""
    try:
        if file.read(6) == b"ARROW1":
            batches = pa.ipc.open_file(file)
            for number in range(batches.num_record_batches):
                yield _checked(name, batches.get_batch(number))
        else:
            file.seek(0)
            for batch in pa.ipc.open_stream(file):
                yield _checked(name, batch)
    except (pa.ArrowException, OSError) as error:
        raise Invalid(
            f"{name} is not an Arrow file that can be read: {str(error).splitlines()[0]}",
            errors=[FieldError(name, "an Arrow file")],
        ) from error


def _checked(name: str, batch: pa.RecordBatch) -> pa.Table:
    batch.validate(full=True)  # offsets that lead out of the data are found here, and not by a crash
    return plain(name, pa.Table.from_batches([batch]))
