"""Steps on whole rows: duplicates, and series brought to even spans of time."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid, TooLarge
from leptonai.core.signature import FeatureType
from leptonai.data import spec_clean as spec
from leptonai.data.cleaning.action import ROW, Action, Moved, missing
from leptonai.data.cleaning.plan import Planned
from leptonai.data.row_hash import SeenRows

_MOST_SPANS = 20_000_000
_MERGED_FROM = 1_000_000  # partial sums that wait to be joined
_KINDS = {
    FeatureType.NUMBER: pa.float64(), FeatureType.INTEGER: pa.int64(), FeatureType.BOOLEAN: pa.bool_(),
    FeatureType.DATETIME: pa.timestamp("us"), FeatureType.TEXT: pa.large_string(),
}  # fmt: skip


class DropDuplicates(Action):
    """Leave out rows that are there already."""

    moves_rows = True
    step: spec.DropDuplicates

    def __init__(self, planned: Planned):
        super().__init__(planned)
        self._seen = SeenRows()

    @property
    def writes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def begin(self) -> None:
        """Forget."""
        self._seen = SeenRows()

    def keep(self, table: pa.Table) -> np.ndarray:
        """Return which rows are new."""
        return self._seen.fresh(table.select(list(self.takes)))


class Resample(Action):
    """Aggregate rows by spans of time; what is kept grows with the spans, not with the rows."""

    moves_rows = True
    step: spec.Resample

    def __init__(self, planned: Planned):
        super().__init__(planned)
        self._every = self.step.every.replace("min", "m")
        self._keys = [*self.step.group, self.step.time]
        self._values = [name for name in planned.before if name not in self._keys]
        self._parts: list[pl.DataFrame] = []
        self._waiting = 0

    def begin(self) -> None:
        """Forget."""
        self._parts, self._waiting = [], 0

    def _how(self, name: str) -> str:
        numeric = self.planned.before[name].type in (FeatureType.NUMBER, FeatureType.INTEGER)
        return self.step.each.get(name, self.step.aggregate if numeric else "last")

    def apply(self, table: pa.Table) -> Moved:
        """Take rows in; they come out at the end."""
        time = table[self.step.time]
        if time.null_count:
            raise Invalid(
                f"resample: column {self.step.time!r} is empty in some rows: leave these out first "
                f'({{"step": "impute", "columns": ["{self.step.time}"], "by": "drop"}})',
                errors=[FieldError(self.step.time, "a time in each row")],
            )
        frame = pl.DataFrame(pl.from_arrow(table.select(list(self.planned.before))))
        numbers = [name for name in self._values if frame[name].dtype.is_float()]
        frame = frame.with_columns(pl.col(numbers).fill_nan(None)).sort(self.step.time, maintain_order=True)
        frame = frame.with_columns(
            pl.col(self.step.time).alias("\0time"), pl.col(self.step.time).dt.truncate(self._every)
        )
        found = frame.group_by(self._keys, maintain_order=True).agg(
            part for at, name in enumerate(self._values) for part in self._begun(at, name)
        )
        self._parts.append(found)
        self._waiting += found.height
        if self._waiting > _MERGED_FROM:
            self._merge()
        return Moved(None, table.slice(0, 0))

    def _begun(self, at: int, name: str) -> list[pl.Expr]:
        """Return what is kept of a span: the aggregate, and of how many values or of which time."""
        values, how = pl.col(name).drop_nulls(), self._how(name)
        count = values.count().alias(f"n{at}")
        if how in ("first", "last"):
            time = pl.col("\0time").filter(pl.col(name).is_not_null())
            one = (values.first(), time.first()) if how == "first" else (values.last(), time.last())
            return [one[0].alias(f"v{at}"), one[1].alias(f"t{at}"), count]
        if how == "count":
            return [count]
        found = values.sum() if how in ("sum", "mean") else values.min() if how == "min" else values.max()
        return [found.alias(f"v{at}"), count]

    def _joined(self, at: int, name: str) -> list[pl.Expr]:
        how, value, count = self._how(name), pl.col(f"v{at}"), pl.col(f"n{at}").sum()
        if how in ("first", "last"):
            time, there = pl.col(f"t{at}"), pl.col(f"t{at}").is_not_null()
            ordered = value.filter(there).sort_by(time.filter(there), maintain_order=True)
            return [
                (ordered.first() if how == "first" else ordered.last()).alias(f"v{at}"),
                (time.min() if how == "first" else time.max()).alias(f"t{at}"),
                count,
            ]
        if how == "count":
            return [count]
        return [value.sum() if how in ("sum", "mean") else value.min() if how == "min" else value.max(), count]

    def _merge(self) -> pl.DataFrame:
        whole = pl.concat(self._parts)
        if len(self._parts) > 1:
            whole = whole.group_by(self._keys, maintain_order=True).agg(
                part for at, name in enumerate(self._values) for part in self._joined(at, name)
            )
        self._check(whole.height)
        self._parts, self._waiting = [whole], 0
        return whole

    def _check(self, spans: float) -> None:
        if spans > _MOST_SPANS:
            raise TooLarge(
                f"resample: every {self.step.every} there are more than {_MOST_SPANS:,} spans: take longer ones",
                errors=[FieldError("every", f"at most {_MOST_SPANS:,} spans")],
            )

    def rest(self) -> Moved | None:
        """Return one row for each span, in the order of group and time."""
        if not self._parts:
            return None
        found = self._merge().sort(self._keys)
        found = found.select(*self._keys, *(self._told(at, name).alias(name) for at, name in enumerate(self._values)))
        if self.step.gaps != "leave_out":
            found = self._evened(found)
        table = found.select(list(self.planned.after)).to_arrow(compat_level=pl.CompatLevel.oldest())
        for at, (name, column) in enumerate(self.planned.after.items()):
            if column.type in _KINDS:
                table = table.set_column(at, name, pc.cast(table[name], _KINDS[column.type]))
        return Moved(None, table.append_column(ROW, pa.nulls(table.num_rows, pa.int64())))

    def _told(self, at: int, name: str) -> pl.Expr:
        how, count = self._how(name), pl.col(f"n{at}")
        if how == "count":
            return count
        value = pl.col(f"v{at}")
        return pl.when(count > 0).then(value / count if how == "mean" else value)

    def _evened(self, found: pl.DataFrame) -> pl.DataFrame:
        group, time = list(self.step.group), self.step.time
        length = pl.select(pl.lit(0).cast(pl.Datetime("us")).dt.offset_by(self._every).cast(pl.Int64)).item()
        bounds = found.group_by(group or pl.lit(0)).agg(
            ((pl.col(time).max() - pl.col(time).min()).dt.total_microseconds()).alias("\0span")
        )
        self._check(bounds["\0span"].sum() / length)
        evened = found.upsample(time_column=time, every=self._every, group_by=group or None, maintain_order=True)
        if group:
            evened = evened.with_columns(pl.col(group).forward_fill())
        if self.step.gaps == "previous":
            filled = pl.col(self._values).forward_fill()
            evened = evened.with_columns(filled.over(group) if group else filled)
        return evened


def dropped(table: pa.Table, kept: np.ndarray, most: int) -> list[dict[str, Any]]:
    """Return the first rows that are left out, with their numbers from 1."""
    out = table.filter(pa.array(~kept)).slice(0, most)
    shown = [name for name in out.column_names if name != ROW and not pa.types.is_fixed_size_binary(out[name].type)][:8]
    rows = out.select(shown).to_pylist() if shown else [{} for _ in range(out.num_rows)]
    return [
        {"row": None if number is None else number + 1, "left_out": row}
        for number, row in zip(out[ROW].to_pylist(), rows, strict=True)
    ]


def changed(before: pa.ChunkedArray, after: pa.ChunkedArray) -> np.ndarray:
    """Return which values (bool) are others than before."""
    if pa.types.is_fixed_size_binary(after.type):
        if before.type != after.type:
            return np.ones(len(after), bool)
        return np.asarray(pc.not_equal(before, after).to_numpy(), bool)
    gone = np.asarray(missing(after).to_numpy(), bool)
    was_gone = np.asarray(missing(before).to_numpy(), bool)
    if before.type != after.type:
        try:
            before = pc.cast(before, after.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return np.asarray(gone & ~was_gone)
    other = np.asarray(pc.fill_null(pc.not_equal(before, after), False).to_numpy(), bool)
    return np.asarray((other & ~(gone & was_gone)) | (gone != was_gone))
