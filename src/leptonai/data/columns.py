"""What a column means: feature types told from the values, or given by the user, and the target.

Rules, in this order
- Whole numbers are `integer`, also where a file writes numbers as text; with zeros in front (postcodes) they are text.
  Other numbers are `number`, and so is a column with no value at all.
- true and false are `boolean`; yes and no stay words, since they are what rows will hold when the model is used.
- Text that is ISO dates or times in its first 100,000 values is `datetime`; other text `category` when it has few distinct
  values (at most 20, or the square root of the rows), else `text`.
- uint8 arrays (height, width[, 1, 3 or 4]) are `image`, other arrays `tensor`.
- The target: one named label, target or y (in any case), else the last column. Text is `category` there, however many classes
  up to 10,000; so are whole numbers that number classes: all of 0 to k-1, or of 1 to k, k at most 20, or -1 and 1.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import FeatureType
from leptonai.data.csv_table import SCHEMA_ROWS
from leptonai.data.misfit import first_misfit, fits
from leptonai.data.origin import Origin

TARGET_NAMES = ("label", "target", "y")
MAX_CLASSES = 10_000  # of a target that is text
_NUMBERED = 20  # classes that are numbers

_TEXT = pa.large_string()
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
_ZONE = r"[0-9](Z|[+-][0-9]{2}:?[0-9]{2})$"
CODE = re.compile(r"(0|-?[1-9][0-9]{0,17})")  # a plain whole number
_TRUE, _FALSE = ("true", "yes", "t", "y", "1"), ("false", "no", "f", "n", "0")


def choose_target(names: Sequence[str], wanted: str | None) -> str | None:
    """Return the target: the wanted one ("" for none), else the one that the rules choose. Raises `Invalid`."""
    if wanted == "":
        return None
    if wanted is not None:
        if wanted not in names:
            listed = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
            raise Invalid(
                f"there is no column {wanted!r} to be the target: the columns are {listed}",
                errors=[FieldError("target", f"one of {listed}")],
            )
        return wanted
    by_name = {name.lower(): name for name in reversed(names)}
    return next((by_name[name] for name in TARGET_NAMES if name in by_name), names[-1] if len(names) > 1 else None)


def provisional(values: pa.ChunkedArray, *, is_target: bool) -> FeatureType:
    """Return what a column of single values means, told from its first rows.

    Text may turn out to be a category, and whole numbers that are a target may turn out to number classes, once all are seen.
    """
    kind = values.type
    if pa.types.is_boolean(kind):
        return FeatureType.BOOLEAN
    if pa.types.is_temporal(kind):
        return FeatureType.DATETIME
    if pa.types.is_integer(kind):
        return FeatureType.INTEGER
    if pa.types.is_floating(kind) or pa.types.is_null(kind):
        return FeatureType.NUMBER
    head = values.slice(0, SCHEMA_ROWS).drop_null()
    if len(head):
        if pc.all(pc.is_in(pc.utf8_lower(head), pa.array(["true", "false"], _TEXT))).as_py():
            return FeatureType.BOOLEAN
        if not is_target and pc.all(pc.match_substring_regex(head, _DATE)).as_py():
            return FeatureType.DATETIME
    return FeatureType.TEXT


def is_numbered(tally: Mapping[Any, int] | None) -> bool:
    """Whether whole numbers number classes: all of 0 to k-1, or of 1 to k, k at most 20, or -1 and 1."""
    if not tally or len(tally) > _NUMBERED:
        return False
    low, high = min(tally), max(tally)
    if not ((low in (0, 1) and low < high < low + _NUMBERED) or (low, high) == (-1, 1)):
        return False
    return len(tally) == (2 if low == -1 else high - low + 1)


_ARROW: Mapping[FeatureType, pa.DataType] = {
    FeatureType.NUMBER: pa.float64(),
    FeatureType.INTEGER: pa.int64(),
    FeatureType.BOOLEAN: pa.bool_(),
    FeatureType.DATETIME: pa.timestamp("us"),
    FeatureType.TEXT: _TEXT,
}
_WORDS: Mapping[FeatureType, str] = {
    FeatureType.NUMBER: "a number",
    FeatureType.INTEGER: "a whole number",
    FeatureType.BOOLEAN: "true or false",
    FeatureType.DATETIME: "an ISO date such as 2026-01-31 or 2026-01-31T12:00:00",
}


def cast(name: str, values: pa.ChunkedArray, kind: FeatureType, origin: Origin) -> pa.ChunkedArray:
    """Return the column in the one form that its type is stored in: float64, int64, bool, timestamp in microseconds, text.

    Categories are int64 where they are whole numbers, else text. Raises `Invalid` naming the first row that does not fit.
    """
    if kind is FeatureType.CATEGORY:
        return _categories(values)
    if kind not in _ARROW:
        raise Invalid(
            f"column {name!r} holds single values, which cannot be {kind} values: leave out types={{{name!r}: {kind.value!r}}}",
            errors=[FieldError(f"types.{name}", "number, integer, category, boolean, datetime or text")],
        )
    to = _ARROW[kind]
    try:
        return _cast(values, to)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        row = first_misfit(values, lambda part: _cast(part, to))
        value, words = values[row].as_py(), _WORDS.get(kind, f"of type {kind}")
        broken = kind is FeatureType.INTEGER and fits(values.slice(row, 1), lambda part: _cast(part, pa.float64()))
        way = FeatureType.NUMBER if broken else FeatureType.CATEGORY
        raise Invalid(
            f"{origin.place(row)}: column {name!r} holds {str(value)[:60]!r}, which is not {words}: mend it, or give the column "
            f"another type (types={{{name!r}: {way.value!r}}})",
            errors=[FieldError(f"{origin.place(row)}, {name}", words)],
        ) from error


def convert(values: pa.ChunkedArray, kind: FeatureType) -> pa.ChunkedArray:
    """Return the column as `cast` does. Raises Arrow's own errors, which cost less where many values do not fit."""
    return _categories(values) if kind is FeatureType.CATEGORY else _cast(values, _ARROW[kind])


def _categories(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(values.type):
        known = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        try:
            values = pc.cast(known, pa.int64())
        except pa.ArrowInvalid:
            values = known
    if pa.types.is_boolean(values.type):
        values = pc.if_else(values, pa.scalar("true", _TEXT), pa.scalar("false", _TEXT))
    return pc.cast(values, pa.int64() if pa.types.is_integer(values.type) else _TEXT)


def _cast(values: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_large_string(values.type):
        if pa.types.is_boolean(to):
            return _truth(pc.utf8_lower(pc.utf8_trim_whitespace(values)))
        if pa.types.is_timestamp(to):
            return _moments(values)
        return pc.cast(values if to == _TEXT else pc.utf8_trim_whitespace(values), to)
    if pa.types.is_boolean(to) and (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return _truth(pc.cast(pc.cast(values, pa.int64()), _TEXT))
    if pa.types.is_timestamp(to):
        if pa.types.is_timestamp(values.type) and values.type.tz is not None:
            values = pc.cast(pc.cast(values, pa.timestamp("us", tz="UTC"), safe=False), pa.int64())
        return pc.cast(values, to, safe=False)
    if pa.types.is_floating(to) and pa.types.is_integer(values.type):
        return pc.cast(values, to, safe=False)  # beyond 2**53 numbers are rounded, as everywhere
    return pc.cast(values, to)


def _truth(words: pa.ChunkedArray) -> pa.ChunkedArray:
    true = pc.is_in(words, pa.array(_TRUE, _TEXT))
    known = pc.or_(true, pc.is_in(words, pa.array(_FALSE, _TEXT)))
    if pc.all(pc.or_(known, pc.is_null(words))).as_py() is False:
        raise pa.ArrowInvalid("not truth values")
    return pc.if_else(pc.is_null(words), pa.scalar(None, pa.bool_()), true)


def _moments(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read ISO dates and times; times with a zone become UTC."""
    zoned = pc.any(pc.match_substring_regex(values, _ZONE)).as_py()
    for unit in ("us", "ns"):  # more than six digits of a second need nanoseconds, which reach from 1677 to 2262 only
        try:
            if zoned:
                utc = pc.cast(values, pa.timestamp(unit, tz="UTC"))
                return pc.cast(
                    pc.cast(pc.cast(utc, pa.timestamp("us", tz="UTC"), safe=False), pa.int64()), pa.timestamp("us")
                )
            return pc.cast(pc.cast(values, pa.timestamp(unit)), pa.timestamp("us"), safe=False)
        except pa.ArrowInvalid:
            if unit == "ns":
                raise
    raise AssertionError("unreachable")


def missing(values: Any) -> Any:
    """Return which values are missing (bool): null, or not a number."""
    return pc.is_null(values, nan_is_null=pa.types.is_floating(values.type))
