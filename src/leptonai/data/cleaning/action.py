"""What a step does to rows that pass by."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.data.cleaning.plan import Planned

ROW = "\0row"  # the number of a row in the version it comes from, from 0; it travels with the row


class Moved(NamedTuple):
    """Rows after a step, and the same rows before it, where they can be told apart."""

    before: pa.Table | None
    after: pa.Table


class Action:
    """One step at work. Each kind says what it does by overriding some of these."""

    learns = False  # whether it needs a look at all rows first
    moves_rows = False  # whether it leaves out rows, or makes others

    def __init__(self, planned: Planned):
        self.planned = planned
        self.step: Any = planned.step
        self.takes = planned.takes
        self.ready = not self.learns

    @property
    def writes(self) -> tuple[str, ...]:
        """The columns that it changes or makes."""
        return self.takes

    def learn(self, table: pa.Table) -> None:
        """Look at rows, in a pass before the one that applies it."""

    def learnt(self) -> None:
        """End the look. Raises `Invalid` where there was nothing to learn from."""

    def told(self) -> dict[str, Any]:
        """Return what it learnt, by column, as JSON data."""
        return {}

    def begin(self) -> None:
        """Forget what it held of rows: a new pass begins."""

    def keep(self, table: pa.Table) -> np.ndarray | None:  # noqa: ARG002  # kinds look at it
        """Return which rows (bool) stay; None: all."""
        return None

    def apply(self, table: pa.Table) -> Moved:
        """Return rows as they are after it; maybe fewer or more than came, where some are held back."""
        return Moved(table, table)

    def rest(self) -> Moved | None:
        """Return the rows that were held back."""
        return None


def replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    """Return a table with other values in one column."""
    at = table.column_names.index(name)
    if isinstance(values, tuple):  # a field and its values, of images or tensors
        return table.set_column(at, *values)
    return table.set_column(at, name, values)


def missing(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which values (bool) are missing: null, or not a number."""
    return pc.is_null(values, nan_is_null=pa.types.is_floating(values.type))
