"""A step that makes values missing which only stand for nothing."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from leptonai.data.cleaning.action import Action, Moved, replaced


class Blank(Action):
    """Make the named values missing."""

    def apply(self, table: pa.Table) -> Moved:
        """Make them missing."""
        after = table
        for name in self.takes:
            values = table[name]
            known = pa.array(_like(values.type, self.step.values), values.type)
            after = replaced(after, name, pc.if_else(pc.is_in(values, known), pa.scalar(None, values.type), values))
        return Moved(table, after)


def _like(kind: pa.DataType, values: tuple[Any, ...]) -> list[Any]:
    """Return those of the values that a column of a type can hold."""
    if pa.types.is_integer(kind):
        return [int(value) for value in values if not isinstance(value, str) and float(value).is_integer()]
    if pa.types.is_floating(kind):
        return [float(value) for value in values if not isinstance(value, str)]
    return [str(value) for value in values]
