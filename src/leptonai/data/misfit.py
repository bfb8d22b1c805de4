"""Which value of a column cannot be what it is meant to be."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa


def fits(values: pa.ChunkedArray, convert: Callable[[pa.ChunkedArray], Any]) -> bool:
    """Return whether all values can be converted."""
    try:
        convert(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def first_misfit(values: pa.ChunkedArray, convert: Callable[[pa.ChunkedArray], Any]) -> int:
    """Return the row, from 0, of the first value that cannot be converted, of a column where one cannot.

    By halves: a column of a million values is converted about twice.
    """
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(values.slice(low, middle - low), convert):
            low = middle
        else:
            high = middle
    return low


def misfits(values: pa.ChunkedArray, convert: Callable[[pa.ChunkedArray], Any]) -> list[int]:
    """Return the rows, from 0, of all values that cannot be converted; by halves, as above."""
    found, waiting = [], [(0, len(values))]
    while waiting:
        low, high = waiting.pop()
        if low == high or fits(values.slice(low, high - low), convert):
            continue
        if high - low == 1:
            found.append(low)
            continue
        middle = (low + high) // 2
        waiting += [(middle, high), (low, middle)]
    return found
