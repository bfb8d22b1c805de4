"""What a model of a time series learns from: lags, means of the last rows, the calendar, and the value that is to be foretold."""

from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import FeatureType
from leptonai.data import spec_clean as spec
from leptonai.data.cleaning.action import ROW, Action, Moved
from leptonai.data.cleaning.plan import Planned, ahead, lag, mean

# No zero byte is in these, as in the name of the column of row numbers: Polars gives such names to nobody.
_ROW = "\1row"
_AT = "\1at"  # the place of a row in its series, from 0
_LEFT = "\1left"  # how many rows of its series follow it, as far as is known
_TOLD = "\1told"  # whether it went out
_DAY_OF_YEAR = "day_of_year"


class Series(Action):
    """Rows go out once as many have followed as the horizon reaches; of each series only its last rows are held."""

    moves_rows = True
    step: spec.Series

    def __init__(self, planned: Planned):
        super().__init__(planned)
        step = self.step
        numbers = [n for n, c in planned.before.items() if c.type in (FeatureType.NUMBER, FeatureType.INTEGER)]
        self._columns = list(step.columns or numbers)
        self._target = next((n for n in numbers if ahead(n, step.horizon) == planned.target), "")
        self._past = max([*step.lags, *(window - 1 for window in step.windows), 0])
        self._held: pl.DataFrame | None = None

    def begin(self) -> None:
        """Forget."""
        self._held = None

    def apply(self, table: pa.Table) -> Moved:
        """Return the rows whose future is known by now. Raises `Invalid` for one that comes before an earlier one."""
        named = table.rename_columns([_ROW if name == ROW else name for name in table.column_names])
        frame = pl.DataFrame(pl.from_arrow(named)).with_columns(
            pl.lit(None, pl.Int64).alias(_AT), pl.lit(False).alias(_TOLD)
        )
        if self._held is not None:
            frame = pl.concat([self._held, frame])
        self._check(frame)
        frame = frame.with_columns(
            self._each(pl.col(_AT).first().fill_null(0) + pl.int_range(pl.len())).alias(_AT),
            self._each(pl.len() - 1 - pl.int_range(pl.len())).alias(_LEFT),
        )
        ready = ~pl.col(_TOLD) & (pl.col(_LEFT) >= self.step.horizon)
        whole = pl.col(_AT) >= (self._past if self.step.incomplete == "leave_out" else 0)
        out = frame.with_columns(self._made()).filter(ready & whole)
        self._held = (
            frame.with_columns((pl.col(_TOLD) | ready).alias(_TOLD))
            .filter(
                pl.col(_LEFT) < self._past + self.step.horizon + 1
            )  # and one row, which knows the place and the time
            .drop(_LEFT)
        )
        return Moved(None, self._table(out, table.schema))

    def _each(self, value: pl.Expr) -> pl.Expr:
        """Return an expression that looks at each series by itself."""
        return value.over(list(self.step.group)) if self.step.group else value

    def _check(self, frame: pl.DataFrame) -> None:
        time = pl.col(self.step.time)
        wrong = frame.filter(time.is_null() | (self._each(time.diff()) < pl.duration()).fill_null(False))
        if wrong.height:
            row, when = wrong[_ROW][0], wrong[self.step.time][0]
            where = f"row {row + 1:,}" if row is not None else "a row"
            what = "has no time" if when is None else f"({when.isoformat(' ')}) lies before the one above it"
            raise Invalid(
                f"series: {where} {what}: rows must come in the order of {self.step.time!r}; resample them first, which sorts them",
                errors=[FieldError(self.step.time, "in order")],
            )

    def _made(self) -> Iterator[pl.Expr]:
        for name in self._columns:
            value = pl.col(name).cast(pl.Float64).fill_nan(None)
            for rows in self.step.lags:
                yield self._each(value.shift(rows)).alias(lag(name, rows))
            for rows in self.step.windows:
                yield self._each(value.rolling_mean(rows, min_samples=1)).alias(mean(name, rows))
        time = pl.col(self.step.time).dt
        for word in self.step.calendar:
            found = time.ordinal_day() if word == _DAY_OF_YEAR else getattr(time, word)()
            yield found.cast(pl.Int64).alias(f"{self.step.time}_{word}")
        if self.step.horizon:
            later = pl.col(self._target).cast(pl.Float64).shift(-self.step.horizon)
            yield self._each(later).alias(ahead(self._target, self.step.horizon))

    def _table(self, out: pl.DataFrame, schema: pa.Schema) -> pa.Table:
        """Return rows with the types that they came with."""
        found = out.select([*self.planned.after, _ROW]).to_arrow(compat_level=pl.CompatLevel.oldest())
        found = found.rename_columns([*self.planned.after, ROW])
        for field in schema:
            at = found.column_names.index(field.name)
            if found[field.name].type != field.type:
                found = found.set_column(at, field.name, pc.cast(found[field.name], field.type))
        return found
