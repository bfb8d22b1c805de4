"""Steps on single values: fill in, bound, cast, write alike, cap."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import FeatureType
from leptonai.data import spec_clean as spec
from leptonai.data.cleaning.action import ROW, Action, Moved, missing, replaced
from leptonai.data.cleaning.plan import Planned
from leptonai.data.columns import convert as converted
from leptonai.data.describe import Numbers, RowSample, Words
from leptonai.data.misfit import first_misfit, misfits

_TEXT = pa.large_string()


class _ByNumbers(Action):
    """A step that learns statistics of columns of numbers."""

    def __init__(self, planned: Planned):
        super().__init__(planned)
        self._sample = RowSample()
        self._numbers = {name: Numbers() for name in self.takes}

    def learn(self, table: pa.Table) -> None:
        """Gather."""
        taken, kept = self._sample.choose(table.num_rows)
        for name, numbers in self._numbers.items():
            numbers.add(table[name], taken, kept)

    def statistics(self, name: str) -> dict[str, Any]:
        """Return what is known of a column. Raises `Invalid` where it has no number."""
        found = self._numbers[name].told()
        if found.get("mean") is None:
            raise _nothing(name)
        return found

    def quantile(self, name: str, share: float) -> float:
        """Return a quantile of a column."""
        return self._numbers[name].quantile(share)


def _nothing(name: str) -> Invalid:
    return Invalid(
        f"column {name!r} has no value to learn from: drop it, or impute it by a constant",
        errors=[FieldError(name, "at least one value")],
    )


class ImputeNumbers(_ByNumbers):
    """Fill in the mean or the median."""

    learns = True
    step: spec.Impute

    def __init__(self, planned: Planned):
        super().__init__(planned)
        self._fill: dict[str, float | int] = {}

    def learnt(self) -> None:
        """Choose the values; those of whole numbers are rounded."""
        for name in self.takes:
            value = self.statistics(name)["mean" if self.step.by == "mean" else "50%"]
            whole = self.planned.before[name].type is FeatureType.INTEGER
            self._fill[name] = round(value) if whole else value

    def told(self) -> dict[str, Any]:
        """Return the values."""
        return dict(self._fill)

    def apply(self, table: pa.Table) -> Moved:
        """Fill in."""
        return Moved(table, _filled(table, self._fill))


class ImputeValues(Action):
    """Fill in the most frequent value, or a constant."""

    step: spec.Impute

    def __init__(self, planned: Planned):
        self.learns = planned.step.by == "most_frequent"
        super().__init__(planned)
        self._words = {name: Words() for name in self.takes}
        self._fill: dict[str, Any] = {} if self.learns else dict.fromkeys(self.takes, self.step.value)

    def learn(self, table: pa.Table) -> None:
        """Count."""
        for name, words in self._words.items():
            values = table[name]
            words.add(values.filter(pc.invert(missing(values))))

    def learnt(self) -> None:
        """Choose the value that most rows have; of several the least."""
        for name, words in self._words.items():
            if words.tally is None:
                raise Invalid(
                    f"column {name!r} has too many different values for a most frequent one: impute it by a constant",
                    errors=[FieldError(name, "at most 100,000 different values")],
                )
            if not words.tally:
                raise _nothing(name)
            tally = words.tally
            self._fill[name] = min(tally, key=lambda value: (-tally[value], str(value)))

    def told(self) -> dict[str, Any]:
        """Return the values."""
        return {
            name: value if isinstance(value, (int, float, str)) else str(value) for name, value in self._fill.items()
        }

    def apply(self, table: pa.Table) -> Moved:
        """Fill in."""
        return Moved(table, _filled(table, self._fill))


def _filled(table: pa.Table, fill: dict[str, Any]) -> pa.Table:
    for name, value in fill.items():
        values = table[name]
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            value = str(value)
        gaps = missing(values)
        if pc.any(gaps).as_py():
            table = replaced(table, name, pc.if_else(gaps, pa.scalar(value, values.type), values))
    return table


class DropMissing(Action):
    """Leave out rows in which a value is missing."""

    moves_rows = True

    @property
    def writes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def keep(self, table: pa.Table) -> np.ndarray:
        """Return which rows have all values."""
        kept = np.ones(table.num_rows, bool)
        for name in self.takes:
            kept &= ~np.asarray(missing(table[name]).to_numpy(), bool)
        return kept


class Bound(_ByNumbers):
    """Clip, flag or leave out numbers beyond bounds that are learnt."""

    learns = True
    step: spec.Outliers

    def __init__(self, planned: Planned):
        super().__init__(planned)
        self.moves_rows = planned.step.do == "drop"
        self._bounds: dict[str, tuple[float, float]] = {}

    @property
    def writes(self) -> tuple[str, ...]:
        """The numbers, or the flags."""
        return {"clip": self.takes, "flag": tuple(f"{name}_outlier" for name in self.takes)}.get(self.step.do, ())

    def learnt(self) -> None:
        """Set the bounds."""
        for name in self.takes:
            found = self.statistics(name)
            if self.step.by == "quantiles":
                low, high = (self.quantile(name, share) for share in self.step.between)
            elif self.step.by == "iqr":
                away = (self.step.factor or 1.5) * (found["75%"] - found["25%"])
                low, high = found["25%"] - away, found["75%"] + away
            else:
                away = (self.step.factor or 3.0) * found["std"]
                low, high = found["mean"] - away, found["mean"] + away
            if self.planned.before[name].type is FeatureType.INTEGER:
                low, high = math.ceil(low), max(math.ceil(low), math.floor(high))
            self._bounds[name] = (low, high)

    def told(self) -> dict[str, Any]:
        """Return the bounds."""
        return {name: list(bounds) for name, bounds in self._bounds.items()}

    def _beyond(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        low, high = self._bounds[name]
        return pc.fill_null(pc.or_(pc.less(table[name], low), pc.greater(table[name], high)), False)

    def keep(self, table: pa.Table) -> np.ndarray | None:
        """Return which rows are within all bounds."""
        if self.step.do != "drop":
            return None
        kept = np.ones(table.num_rows, bool)
        for name in self.takes:
            kept &= ~np.asarray(self._beyond(table, name).to_numpy(), bool)
        return kept

    def apply(self, table: pa.Table) -> Moved:
        """Clip or flag."""
        after = table
        for name, (low, high) in self._bounds.items():
            if self.step.do == "flag":
                after = after.append_column(f"{name}_outlier", self._beyond(table, name))
            elif self.step.do == "clip":
                values = table[name]
                clipped = pc.max_element_wise(
                    pc.min_element_wise(values, pa.scalar(high, values.type)), pa.scalar(low, values.type)
                )
                after = replaced(after, name, pc.if_else(missing(values), values, clipped))
        return Moved(table, after)


class CastValues(Action):
    """Give columns another type."""

    step: spec.Cast

    def apply(self, table: pa.Table) -> Moved:
        """Cast; a misfit is named, or becomes missing."""
        after = table
        for name in self.takes:
            after = replaced(after, name, self._cast(name, table[name], table[ROW]))
        return Moved(table, after)

    def _cast(self, name: str, values: pa.ChunkedArray, rows: pa.ChunkedArray) -> pa.ChunkedArray:
        kind = self.step.types[name]
        if kind is FeatureType.CATEGORY and pa.types.is_floating(values.type):
            values = pc.cast(pc.if_else(missing(values), pa.scalar(None, values.type), values), _TEXT)

        def convert(part: pa.ChunkedArray) -> pa.ChunkedArray:
            return converted(part, kind)

        try:
            return convert(values)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            if self.step.misfits == "missing":
                known = pa.chunked_array([values.unique()])
                bad = known.take(pa.array(misfits(known, convert), pa.int64())).combine_chunks()
                return convert(pc.if_else(pc.is_in(values, bad), pa.scalar(None, values.type), values))
            row = first_misfit(values, convert)
        number, value = (rows[row].as_py() or 0) + 1, values[row].as_py()
        raise Invalid(
            f"row {number:,}: column {name!r} holds {str(value)[:60]!r}, which cannot be a {kind}: mend it, or make such values missing: "
            f"cast:{name}={kind}?",
            errors=[FieldError(f"row {number:,}, {name}", f"a {kind}")],
        )


class WriteAlike(Action):
    """Write text in one way."""

    step: spec.Text

    def apply(self, table: pa.Table) -> Moved:
        """Normalise."""
        after = table
        for name in self.takes:
            values = table[name]
            if not pa.types.is_large_string(values.type):
                continue  # a category of whole numbers
            if self.step.unicode:
                values = pc.utf8_normalize(values, form=self.step.unicode)
            if self.step.space:
                values = pc.utf8_trim_whitespace(pc.replace_substring_regex(values, r"[\s\p{Z}\x{85}]+", " "))
            if self.step.case:
                values = pc.utf8_lower(values) if self.step.case == "lower" else pc.utf8_upper(values)
            after = replaced(after, name, values)
        return Moved(table, after)


class Cap(Action):
    """Call rare values by one word."""

    learns = True
    step: spec.CapCategories

    def __init__(self, planned: Planned):
        super().__init__(planned)
        self._words = {name: Words() for name in self.takes}
        self._kept: dict[str, list[str]] = {}

    def learn(self, table: pa.Table) -> None:
        """Count."""
        for name, words in self._words.items():
            words.add(pc.cast(table[name], _TEXT))

    def learnt(self) -> None:
        """Choose the values that stay: the most frequent ones."""
        for name, words in self._words.items():
            if words.tally is None:
                raise Invalid(
                    f"column {name!r} has more than 100,000 different values: it is text, and no category",
                    errors=[FieldError(name, "at most 100,000 different values")],
                )
            tally = words.tally
            often = sorted(
                (v for v in tally if tally[v] >= self.step.at_least), key=lambda value: (-tally[value], value)
            )
            self._kept[name] = often[: self.step.keep]

    def told(self) -> dict[str, Any]:
        """Return the values that stay."""
        return {name: kept[:50] for name, kept in self._kept.items()}

    def apply(self, table: pa.Table) -> Moved:
        """Rename the others."""
        after = table
        for name, kept in self._kept.items():
            values = pc.cast(table[name], _TEXT)
            stays = pc.or_(pc.is_in(values, pa.array(kept, _TEXT)), pc.is_null(values))
            after = replaced(after, name, pc.if_else(stays, values, pa.scalar(self.step.other, _TEXT)))
        return Moved(table, after)
