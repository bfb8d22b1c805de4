"""Rules at work: rows pass by, and the first ones that break a rule are named.

The rules are computed by Arrow, piece by piece, in bounded memory: 16 bytes a row where values must be unique, 8 a key of the other
dataset. Patterns are RE2's, so no pattern takes longer than linear time.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.data import spec_check as spec
from leptonai.data.cleaning.action import missing
from leptonai.data.groups import Groups
from leptonai.data.row_hash import SeenRows, hashes
from leptonai.data.spec_check import RuleReport

_NAMED = 5  # bad rows of a rule
_TEXT = pa.large_string()
_SPANS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Checker:
    """Holds rows against rules."""

    def __init__(
        self,
        rules: Sequence[Any],
        keys: Mapping[int, np.ndarray] | None = None,
        personal: Collection[str] = (),
        now: datetime | None = None,
    ):
        self._now = now or datetime.now(UTC)
        self._held = [_Held(rule, (keys or {}).get(at), personal) for at, rule in enumerate(rules)]
        self.rows = 0

    def add(self, table: pa.Table, place: Callable[[int], str]) -> None:
        """Look at more rows; `place` says where a row of the table comes from. Raises `Invalid` for a column that is not there."""
        for one in self._held:
            one.add(table, place)
        self.rows += table.num_rows

    def finish(self) -> tuple[RuleReport, ...]:
        """Return whether each rule is kept."""
        return tuple(one.told(self.rows, self._now) for one in self._held)


class _Held:
    """One rule, and the rows that break it."""

    def __init__(self, rule: Any, keys: np.ndarray | None, personal: Collection[str]):
        self.rule = rule
        self._keys = keys
        self._personal = personal
        self._seen = SeenRows()
        self._newest: datetime | None = None
        self._groups = Groups(rule.columns) if isinstance(rule, spec.KAnonymity) else None
        self.bad = 0
        self.rows: list[dict[str, Any]] = []

    def add(self, table: pa.Table, place: Callable[[int], str]) -> None:
        """Look at more rows."""
        names = columns_of(self.rule)
        for name in names:
            if name not in table.column_names:
                raise _no_column(self.rule, name, table.column_names)
        try:
            which = self._breaking(table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Invalid(
                f"rule {self.rule.rule} cannot be held against column {names[0]!r}, which holds {table[names[0]].type} values: "
                f"{error}",
                errors=[FieldError(f"checks.{self.rule.rule}", "a column that fits")],
            ) from error
        if which is None:
            return
        self.bad += int(which.sum())
        for row in np.flatnonzero(which)[: _NAMED - len(self.rows)].tolist():
            values = {name: _shown(table[name][row].as_py()) for name in names if name not in self._personal}
            self.rows.append({"place": place(row), "values": values})

    def _breaking(self, table: pa.Table) -> np.ndarray | None:
        """Return which rows (bool) break the rule; None where single rows cannot."""
        rule = self.rule
        if isinstance(rule, spec.Fresh):
            newest = pc.max(table[rule.column]).as_py()
            self._newest = max(filter(None, (newest, self._newest)), default=None)
            return None
        if isinstance(rule, spec.RowCount):
            return None
        if self._groups is not None:
            self._groups.add(table)
            return None
        if isinstance(rule, spec.Unique):
            return ~self._seen.fresh(table.select(list(rule.columns)))
        if isinstance(rule, spec.NotMissing):
            gone = np.zeros(table.num_rows, bool)
            for name in rule.columns:
                gone |= _bool(missing(table[name]))
            return gone
        values = table[rule.column]
        return np.asarray(~_bool(self._kept(values)) & ~_bool(missing(values)))

    def _kept(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        rule = self.rule
        if isinstance(rule, spec.Range):
            kept = pc.is_valid(values)
            if rule.min is not None:
                kept = pc.and_(kept, pc.greater_equal(values, _bound(rule.min, values.type)))
            return kept if rule.max is None else pc.and_(kept, pc.less_equal(values, _bound(rule.max, values.type)))
        if isinstance(rule, spec.Regex):
            return pc.match_substring_regex(_text(values), f"^(?:{rule.pattern})$")
        if isinstance(rule, spec.OneOf):
            if (
                pa.types.is_boolean(values.type)
                or pa.types.is_integer(values.type)
                or pa.types.is_floating(values.type)
            ):
                known = pa.array([v for v in rule.values if not isinstance(v, str)])
                return pc.is_in(pc.cast(values, known.type, safe=False), known) if len(known) else pc.is_null(values)
            return pc.is_in(_text(values), pa.array([_word(value) for value in rule.values], _TEXT))
        found = np.isin(key_hashes(values), self._keys if self._keys is not None else np.empty(0, np.uint64))
        return pa.chunked_array([pa.array(found)])

    def told(self, rows: int, now: datetime) -> RuleReport:
        """Return whether it is kept."""
        rule, name = self.rule, said(self.rule)
        if isinstance(rule, spec.RowCount):
            passed = (rule.min is None or rows >= rule.min) and (rule.max is None or rows <= rule.max)
            return self._report(passed, f"{name}: there are {rows:,} rows")
        if isinstance(rule, spec.Fresh):
            passed = self._newest is not None and now.replace(tzinfo=None) - self._newest <= _span(rule.within)
            newest = "no time at all" if self._newest is None else self._newest.isoformat()
            return self._report(passed, f"{name}: the newest is {newest}")
        if self._groups is not None:
            return self._anonymous(self._groups, name)
        allowed = int(rule.at_most * rows) if isinstance(rule, spec.NotMissing) else 0
        if self.bad <= allowed:
            return self._report(
                True, f"{name}: kept by all rows" if not self.bad else f"{name}: broken in {self.bad:,}, which may be"
            )
        first = self.rows[0]
        value = ", ".join(f"{column} is {value!r}" for column, value in first["values"].items())
        rows_ = "1 row breaks it" if self.bad == 1 else f"{self.bad:,} rows break it"
        return self._report(False, f"{name}: {rows_}, the first is {first['place']}{f' ({value})' if value else ''}")

    def _anonymous(self, groups: Groups, name: str) -> RuleReport:
        found = groups.below(self.rule.k, _NAMED)
        if found.groups == 0:
            return self._report(True, f"{name}: the smallest group has {found.smallest:,} rows")
        self.bad = found.rows
        shown = [column for column in self.rule.columns if column not in self._personal]
        for values, count in found.examples:
            place = "a group of 1 row" if count == 1 else f"a group of {count:,} rows"
            self.rows.append({"place": place, "values": {column: _shown(values[column]) for column in shown}})
        first = ", ".join(f"{column} is {value!r}" for column, value in self.rows[0]["values"].items())
        return self._report(
            False,
            f"{name}: {found.rows:,} rows lie in {found.groups:,} smaller groups, the first is {self.rows[0]['place']}"
            f"{f' ({first})' if first else ''}",
        )

    def _report(self, passed: bool, text: str) -> RuleReport:
        rule = self.rule.model_dump(mode="json", exclude_none=True, exclude={"at"})
        return RuleReport(rule=rule, passed=passed, bad=self.bad, text=text, rows=tuple(self.rows))


def hold(reports: Sequence[RuleReport], what: str) -> None:
    """Raise `Invalid` that names the rows that break rules."""
    broken = [report for report in reports if not report.passed]
    if not broken:
        return
    more = f" (and {len(broken) - 1} more rules are broken)" if len(broken) > 1 else ""
    fields = [
        FieldError(row["place"], f"{said_of(report)}: {row['values']}") for report in broken for row in report.rows
    ] or [FieldError("checks", report.text) for report in broken]
    raise Invalid(
        f"{what} does not keep its rules: {broken[0].text}{more}: mend the data, or change the rule", errors=fields
    )


def said_of(report: RuleReport) -> str:
    """Return the rule of a report in a few words."""
    return report.text.partition(": ")[0]


def columns_of(rule: Any) -> tuple[str, ...]:
    """Return the columns that a rule looks at."""
    return tuple(rule.columns) if hasattr(rule, "columns") else (rule.column,) if hasattr(rule, "column") else ()


def said(rule: Any) -> str:
    """Return a rule in a few words."""
    names = " and ".join(columns_of(rule))
    if isinstance(rule, (spec.Range, spec.RowCount)):
        low = "" if rule.min is None else f"at least {_plain(rule.min)}"
        high = "" if rule.max is None else f"at most {_plain(rule.max)}"
        return f"{names or 'rows'} {' and '.join(filter(None, (low, high)))}"
    if isinstance(rule, spec.OneOf):
        listed = ", ".join(map(str, rule.values[:8])) + (", …" if len(rule.values) > 8 else "")
        return f"{names} one of {listed}"
    if isinstance(rule, spec.KAnonymity):
        return f"{names} shared by at least {rule.k} rows"
    words = {"unique": "unique", "not_missing": "not missing"}.get(rule.rule)
    if words is not None:
        return f"{names} {words}"
    if isinstance(rule, spec.Regex):
        return f"{names} like {rule.pattern}"
    return f"{names} newer than {rule.within}" if isinstance(rule, spec.Fresh) else f"{names} in {rule.to}.{rule.key}"


def key_hashes(values: pa.ChunkedArray) -> np.ndarray:
    """Return hashes of values as text, so that 7 and "7" are one key."""
    if pa.types.is_floating(values.type):
        values = pc.cast(pc.if_else(missing(values), pa.scalar(None, values.type), values), pa.int64(), safe=False)
    return hashes(pa.table({"key": _text(values)}))


def _no_column(rule: Any, name: str, names: Sequence[str]) -> Invalid:
    listed = ", ".join(names[:30])
    return Invalid(
        f"rule {rule.rule}: there is no column {name!r}: the columns are {listed}",
        errors=[FieldError(f"checks.{rule.rule}", f"one of {listed}")],
    )


def _bound(value: Any, kind: pa.DataType) -> pa.Scalar:
    if isinstance(value, datetime):
        value = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo is not None else value
        return pa.scalar(value, pa.timestamp("us"))
    return pa.scalar(float(value), pa.float64()) if not pa.types.is_timestamp(kind) else pa.scalar(str(value))


def _span(text: str) -> timedelta:
    count = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return timedelta(**{_SPANS[text[len(count) :]]: int(count)})


def _text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values if values.type == _TEXT else pc.cast(values, _TEXT)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bool(values: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(values, False).to_numpy(), bool)


def _shown(value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or value is None:
        return value if value == value else None
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _plain(bound: Any) -> str:
    """Return a bound as it was most likely written: 18, and not 18.0."""
    return str(int(bound)) if isinstance(bound, float) and bound.is_integer() else str(bound)
