"""Tables in memory (pandas, polars, PyArrow, NumPy), written to a temporary file on their way to the server."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

from leptonai.core.errors import FieldError, Invalid


def is_table(item: object) -> bool:
    """Whether an object is a pandas or polars frame, or a PyArrow table; imports none of them to say no."""
    return any(
        (library := sys.modules.get(name)) is not None
        and isinstance(item, tuple(getattr(library, kind) for kind in kinds))
        for name, kinds in (
            ("pandas", ("DataFrame",)),
            ("polars", ("DataFrame", "LazyFrame")),
            ("pyarrow", ("Table", "RecordBatch")),
        )
    )


@contextmanager
def written(item: Any, name: str) -> Iterator[tuple[IO[bytes], str]]:
    """Give a file with the rows of a table, or of a dict of arrays, and how its name ends. Raises `Invalid`."""
    with tempfile.TemporaryFile() as file:
        yield file, _write(item, name, file)


def reopened(file: IO[bytes]) -> BinaryIO:
    """Return a temporary file at its begin."""
    file.seek(0)
    return cast(BinaryIO, _Lent(file))


class _Lent:
    """A file that is read and not closed."""

    def __init__(self, file: IO[bytes]):
        self.read = file.read

    def __enter__(self) -> "_Lent":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _write(item: Any, name: str, file: IO[bytes]) -> str:
    if isinstance(item, Mapping):
        import numpy as np

        arrays = {str(key): np.asarray(value) for key, value in item.items()}
        if not arrays:
            raise Invalid(f"{name} has no columns: there is no data in it", errors=[FieldError(name, "no columns")])
        for key, array in arrays.items():
            if array.dtype.hasobject:
                arrays[key] = _words(name, key, array)
        np.savez(cast(Any, file), **cast(Any, arrays))
        return ".npz"
    library = type(item).__module__.partition(".")[0]
    if library == "polars":
        frame = item.collect() if type(item).__name__ == "LazyFrame" else item
        frame.write_parquet(file)
        return ".parquet"
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if library == "pandas":
            item = item.rename(columns=str)
            table = pa.Table.from_pandas(item, preserve_index=False)
        else:
            table = pa.Table.from_batches([item]) if isinstance(item, pa.RecordBatch) else item
        pq.write_table(table, file)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise Invalid(
            f"{name} cannot be written as Parquet: {str(error).splitlines()[0]}",
            errors=[FieldError(name, "columns of one type each")],
        ) from error
    return ".parquet"


def _words(name: str, key: str, array: Any) -> Any:
    if array.ndim == 1 and all(isinstance(value, str) for value in array.tolist()):
        return array.astype(str)
    raise Invalid(
        f"{name}: array {key!r} holds Python objects: make it an array of numbers or text",
        errors=[FieldError(key, "numbers or text")],
    )
