"""Steps on columns as a whole. In a pass that only learns some columns may not be there: they are passed over."""

import pyarrow as pa

from leptonai.data import spec_clean as spec
from leptonai.data.cleaning.action import ROW, Action, Moved


class Drop(Action):
    """Leave out columns."""

    @property
    def writes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def apply(self, table: pa.Table) -> Moved:
        """Drop."""
        return Moved(table, table.drop_columns([name for name in self.takes if name in table.column_names]))


class Select(Action):
    """Keep columns, in an order."""

    @property
    def writes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def apply(self, table: pa.Table) -> Moved:
        """Select."""
        return Moved(table, table.select([*(name for name in self.takes if name in table.column_names), ROW]))


class Rename(Action):
    """Give columns other names."""

    step: spec.Rename

    @property
    def writes(self) -> tuple[str, ...]:
        """The old names and the new ones."""
        return (*self.step.names, *self.step.names.values())

    def apply(self, table: pa.Table) -> Moved:
        """Rename."""
        fields = [field.with_name(self.step.names.get(field.name, field.name)) for field in table.schema]
        return Moved(table, pa.Table.from_arrays(table.columns, schema=pa.schema(fields)))
