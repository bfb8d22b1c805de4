"""How many rows share each combination of some columns: what k-anonymity is about (Sweeney 2002, Int. J. Uncertainty, Fuzziness 10(5)).

What is held grows with the combinations, not with the rows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, TooLarge

COUNT = "\0rows"
MOST = 20_000_000  # combinations
_MERGED_FROM = 1_000_000  # that wait to be joined


class Below(NamedTuple):
    """The groups that are smaller than they should be."""

    groups: int
    rows: int
    smallest: int  # rows of the smallest group of all
    examples: list[tuple[dict[str, Any], int]]  # the smallest ones: values, rows


class Groups:
    """Counts rows by their values in some columns. A missing value is a value like any other."""

    def __init__(self, columns: Sequence[str]):
        self._columns = list(dict.fromkeys(columns))
        self._parts: list[pa.Table] = []
        self._waiting = 0

    def add(self, table: pa.Table) -> None:
        """Count more rows. Raises `TooLarge` where nearly every row is a group of its own, and there are very many."""
        found = table.select(self._columns).group_by(self._columns).aggregate([([], "count_all")])
        self._parts.append(found.rename_columns([*self._columns, COUNT]))
        self._waiting += found.num_rows
        if self._waiting > _MERGED_FROM:
            whole = self.counts()
            if whole.num_rows > MOST:
                listed = ", ".join(self._columns)
                raise TooLarge(
                    f"{listed} have more than {MOST:,} combinations: name fewer columns, or generalise them first",
                    errors=[FieldError("columns", f"at most {MOST:,} combinations")],
                )
            self._waiting = 0

    def counts(self) -> pa.Table:
        """Return the combinations with how many rows share each, in a column `COUNT`."""
        if len(self._parts) > 1:
            whole = pa.concat_tables(self._parts, promote_options="permissive")
            summed = whole.group_by(self._columns).aggregate([(COUNT, "sum")])
            self._parts = [summed.rename_columns([*self._columns, COUNT])]
        return self._parts[0] if self._parts else pa.table({COUNT: pa.array([], pa.int64())})

    def below(self, k: int, examples: int) -> Below:
        """Return the groups of fewer than `k` rows."""
        counts = self.counts()
        rows = counts[COUNT]
        small = counts.filter(pc.less(rows, k))
        order = pc.sort_indices(small, sort_keys=[(COUNT, "ascending")])[:examples]
        named = [(values, values.pop(COUNT)) for values in small.take(order).to_pylist()]
        return Below(small.num_rows, pc.sum(small[COUNT]).as_py() or 0, pc.min(rows).as_py() or 0, named)
