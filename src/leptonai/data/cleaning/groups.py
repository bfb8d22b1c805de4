"""Until nobody stands out: values are made less exact, and few rows left out, until each group has enough rows.

The way is that of Datafly (Sweeney 1997): as long as too many rows lie in small groups, the column with the most different values
says less; what is left in small groups then is left out.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.data import anonymise
from leptonai.data.cleaning.action import Action, Moved, replaced
from leptonai.data.cleaning.plan import Planned
from leptonai.data.groups import COUNT, Groups
from leptonai.data.row_hash import hashes
from leptonai.data.spec_private import KAnonymity

ALL = "*"  # what stands where nothing is said
_STEPS = 32  # ranges, about, into which numbers are cut first
_TEXT = pa.large_string()

Say = tuple[str, Callable[[pa.ChunkedArray], pa.ChunkedArray]]  # in words, and what makes it


class KAnonymous(Action):
    """Say less until each combination of the columns has enough rows."""

    learns = True
    moves_rows = True
    step: KAnonymity

    def __init__(self, planned: Planned):
        super().__init__(planned)
        self._groups = Groups(self.takes)
        self._said: dict[str, Say] = {}
        self._left_out = np.empty(0, np.uint64)
        self._facts: dict[str, Any] = {}

    def learn(self, table: pa.Table) -> None:
        """Count combinations."""
        self._groups.add(table)

    def learnt(self) -> None:
        """Find how little has to be left unsaid. Raises `Invalid` where that does not suffice."""
        counts = self._groups.counts()
        self._groups = Groups(self.takes)
        total = int(pc.sum(counts[COUNT]).as_py() or 0)
        ladders = {name: ladder(counts[name]) for name in self.takes}
        at = dict.fromkeys(self.takes, 0)
        while True:
            said = counts
            for name in self.takes:
                said = replaced(said, name, ladders[name][at[name]][1](counts[name]))
            grouped = said.group_by(list(self.takes)).aggregate([(COUNT, "sum")])
            rows = grouped[f"{COUNT}_sum"]
            small = grouped.filter(pc.less(rows, self.step.k))
            lost = int(pc.sum(small[f"{COUNT}_sum"]).as_py() or 0)
            if lost <= self.step.suppress * total and lost < total:
                break
            higher = [name for name in self.takes if at[name] + 1 < len(ladders[name])]
            if not higher:
                raise self._refused(lost, total)
            at[max(higher, key=lambda name: pc.count_distinct(said[name], mode="all").as_py())] += 1
        self._said = {name: ladders[name][at[name]] for name in self.takes}
        self._left_out = hashes(small.select(list(self.takes))) if small.num_rows else self._left_out
        large = pc.min(rows.filter(pc.greater_equal(rows, self.step.k))).as_py()
        self._facts = {"smallest": large, "left_out": lost}

    def _refused(self, lost: int, total: int) -> Invalid:
        return Invalid(
            f"k_anonymity: {lost:,} of {total:,} rows still lie in groups of fewer than {self.step.k} when nothing is said of "
            f"{', '.join(self.takes)}: ask for a smaller k, or let more rows be left out (suppress)",
            errors=[FieldError("k", f"at most {total}")],
        )

    def told(self) -> dict[str, Any]:
        """Return what is said of each column, and what was left out."""
        return {**{name: words for name, (words, _) in self._said.items()}, COUNT.strip("\0"): self._facts}

    def apply(self, table: pa.Table) -> Moved:
        """Say less, and leave out the rows of small groups."""
        said = table
        for name, (_, made) in self._said.items():
            said = replaced(said, name, made(table[name]))
        kept = pa.array(~np.isin(hashes(said.select(list(self.takes))), self._left_out))
        return Moved(table.filter(kept), said.filter(kept))


def ladder(values: pa.ChunkedArray) -> list[Say]:
    """Return the ways in which less and less is said of values, from all to nothing."""
    kind = values.type
    found: list[Say] = [("as it is", _plain)]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        found += _widths(values)
    elif pa.types.is_timestamp(kind):
        found += [("by month", _dated("%Y-%m")), ("by year", _dated("%Y"))]
    elif pa.types.is_large_string(kind):
        found += _beginnings(values)
    return [*found, ("nothing", lambda given: pa.chunked_array([pa.array([ALL] * len(given), _TEXT)]))]


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_boolean(values.type):
        return pc.if_else(values, pa.scalar("true", _TEXT), pa.scalar("false", _TEXT))
    if pa.types.is_timestamp(values.type):
        return pc.cast(pc.strftime(values, "%Y-%m-%dT%H:%M:%S"), _TEXT)
    return pc.cast(values, _TEXT)


def _widths(values: pa.ChunkedArray) -> list[Say]:
    finite = pc.cast(values, pa.float64(), safe=False).drop_null().to_numpy()
    finite = finite[np.isfinite(finite)]
    span = float(finite.max() - finite.min()) if len(finite) else 0.0
    if not span or not math.isfinite(span):
        return []
    exact = span / _STEPS
    power = 10.0 ** math.floor(math.log10(exact))
    width = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= exact)
    if pa.types.is_integer(values.type):
        width = max(2.0, width)
    found: list[Say] = []
    while width < 2 * span:
        found.append((f"ranges of {width:g}", partial(anonymise.bins, width=width)))
        width *= 2
    return found


def _dated(how: str) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    return lambda given: pc.cast(pc.strftime(given, how), _TEXT)


def _beginnings(values: pa.ChunkedArray) -> list[Say]:
    """Return shorter and shorter beginnings of codes, such as postcodes: words that all have one length."""
    bounds = pc.min_max(pc.utf8_length(values)).as_py()
    length = bounds["max"] or 0
    if bounds["min"] != bounds["max"] or length < 2 or length > 32:
        return []
    return [(f"the first {keep} letters", partial(anonymise.prefix, length=keep)) for keep in range(length - 1, 0, -1)]
