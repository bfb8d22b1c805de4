"""What a file may claim to hold: some hundred bytes can say anything of themselves, and take all memory of whoever believes them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid, TooLarge

MAX_COLUMNS = 100_000
MAX_CELLS = 4_000_000_000  # rows times columns
_SMALL_CELLS = 50_000_000  # so many are believed of any file, and of a larger one...
_CELLS_A_BYTE = 300  # ...so many for each of its bytes: repetition packs well
MAX_RATIO = 1_000  # of a value that is stored once and meant often; and at least...
MAX_SMALL = 1 << 30  # ...this much is spelled out whatever the ratio
_PIECE = 32 << 20  # bytes of text that are spelled out at once
_WORDS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def check_columns(name: str, count: int) -> None:
    """Raise `Invalid` for a file without columns, `TooLarge` for one of more than any model learns from."""
    if not count:
        raise Invalid(f"{name} has no columns: there is no data in it", errors=[FieldError(name, "no columns")])
    if count > MAX_COLUMNS:
        raise TooLarge(
            f"{name} has {count:,} columns, and at most {MAX_COLUMNS:,} are read: leave some out",
            errors=[FieldError(name, f"at most {MAX_COLUMNS:,} columns")],
        )


def check_cells(name: str, rows: int, columns: int, size: int) -> None:
    """Raise `TooLarge` when a file of `size` bytes claims more values than it can be meant to hold."""
    cells = rows * max(1, columns)
    most = min(MAX_CELLS, max(_SMALL_CELLS, size * _CELLS_A_BYTE))
    if cells > most:
        raise TooLarge(
            f"{name} claims {cells:,} values, and at most {most:,} are read of {size:,} bytes: split the file",
            errors=[FieldError(name, f"at most {most:,} values")],
        )


class Spelled:
    """Tables whose values are stored once and meant often, in pieces in which they can be spelled out."""

    def __init__(self, name: str, size: int):
        self._name = name
        self._limit = max(MAX_SMALL, size * MAX_RATIO)
        self._left = self._limit

    def pieces(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows, so many at a time that their text takes some tens of megabytes. Raises `TooLarge`."""
        lengths = None
        for values in table.columns:
            own = _lengths(values)
            if own is not None:
                lengths = own if lengths is None else lengths + own
        if lengths is None:
            yield table
            return
        self._left -= int(lengths.sum())
        if self._left < 0:
            raise TooLarge(
                f"{self._name} unpacks to more than {self._limit >> 20:,} MiB, {MAX_RATIO:,} times its size: write it again without "
                "so much repetition",
                errors=[FieldError(self._name, f"at most {self._limit >> 20:,} MiB")],
            )
        ends = np.cumsum(lengths)
        start = 0
        while start < table.num_rows:
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + _PIECE, "right")))
            yield table.slice(start, stop - start)
            start = stop


def _lengths(values: pa.ChunkedArray) -> np.ndarray | None:
    """Return how many bytes each value takes when it is spelled out; None where it is spelled out already, or has one width."""
    kind = values.type
    if pa.types.is_dictionary(kind) and any(test(kind.value_type) for test in _WORDS):
        found = [
            pc.fill_null(pc.take(pc.binary_length(chunk.dictionary), chunk.indices), 0).to_numpy(zero_copy_only=False)
            for chunk in values.chunks
        ]
    elif pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        found = [_view_lengths(chunk) for chunk in values.chunks]
    else:
        return None
    return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)


def _view_lengths(chunk: pa.Array) -> np.ndarray:
    """Return the lengths that views say: the first four of the sixteen bytes of each."""
    views = np.frombuffer(chunk.buffers()[1], np.int32).reshape(-1, 4)[chunk.offset : chunk.offset + len(chunk), 0]
    known = np.asarray(chunk.is_valid().to_numpy(zero_copy_only=False), bool)
    return np.where(known, views, 0)
