"""A Parquet file as tables, some rows at a time."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.data.plain import plain

MAX_CELLS = 4_000_000_000  # rows times columns: a few bytes can claim any number
_CELLS = 4_000_000  # of one table


def read_parquet(name: str, file: BinaryIO) -> Iterator[pa.Table]:
    """Yield the rows; lists of numbers, all of one length, become tensors. Raises `Invalid` naming the column."""
    try:
        with pq.ParquetFile(file) as found:
            columns = found.metadata.num_columns
            cells = found.metadata.num_rows * max(1, columns)
            if cells > MAX_CELLS:
                raise TooLarge(f"{name} claims {cells:,} values, and at most {MAX_CELLS:,} are read: split the file")
            if not found.schema_arrow.names:
                raise Invalid(f"{name} has no columns: there is no data in it", errors=[FieldError(name, "no columns")])
            for batch in found.iter_batches(max(1024, _CELLS // max(1, columns))):
                yield plain(name, pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError) as error:
        raise Invalid(
            f"{name} is not a Parquet file that can be read: {str(error).splitlines()[0]}",
            errors=[FieldError(name, "a Parquet file")],
        ) from error
