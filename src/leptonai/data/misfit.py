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
