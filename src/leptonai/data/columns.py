"""What a column means: feature types told from the values, or given by the user, and the target.

Rules. Floating point is `number`, whole numbers `integer`, true/false `boolean`, ISO dates `datetime`. Text with few distinct
values (at most 20, or the square root of the rows) is `category`, other text `text`. Images are `image`, other arrays
`tensor`. For the target: text is always `category`, and so are whole numbers that are class numbers: 0 to k-1, each of them
there, k at most 20.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import FeatureType

TARGET_NAMES = ("label", "target", "y")
MAX_CATEGORIES = 100_000
MAX_CLASSES = 20


def choose_target(names: Sequence[str], wanted: str | None) -> str | None:
    """Return the target: the wanted one, else a column named label, target or y, else the last. Raises `Invalid`."""
    if wanted == "":
        return None
    if wanted is not None:
        if wanted not in names:
            raise Invalid(
                f"there is no column {wanted!r} to be the target: the columns are {', '.join(names[:30])}",
                errors=[FieldError("target", f"one of {', '.join(names[:30])}")],
            )
        return wanted
    by_name = {name.lower(): name for name in reversed(names)}
    return next((by_name[name] for name in TARGET_NAMES if name in by_name), names[-1] if len(names) > 1 else None)


def feature_type(values: pa.ChunkedArray, *, is_target: bool) -> FeatureType:
    """Return what a column of scalars means, told from its values."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return FeatureType.BOOLEAN
    if pa.types.is_temporal(kind):
        return FeatureType.DATETIME
    if pa.types.is_integer(kind):
        return FeatureType.CATEGORY if is_target and _class_numbers(values) else FeatureType.INTEGER
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return FeatureType.NUMBER
    if is_target:
        return FeatureType.CATEGORY
    distinct = pc.count_distinct(values).as_py()
    few = distinct <= max(20, int(len(values) ** 0.5))
    return FeatureType.CATEGORY if few and distinct <= MAX_CATEGORIES else FeatureType.TEXT


def _class_numbers(values: pa.ChunkedArray) -> bool:
    bounds = pc.min_max(values).as_py()
    if bounds["min"] != 0 or not 1 <= bounds["max"] < MAX_CLASSES:
        return False
    return bool(pc.count_distinct(values).as_py() == bounds["max"] + 1)


_ARROW: Mapping[FeatureType, pa.DataType] = {
    FeatureType.NUMBER: pa.float64(),
    FeatureType.INTEGER: pa.int64(),
    FeatureType.BOOLEAN: pa.bool_(),
    FeatureType.DATETIME: pa.timestamp("us"),
    FeatureType.TEXT: pa.large_string(),
}


def cast(name: str, values: pa.ChunkedArray, kind: FeatureType) -> pa.ChunkedArray:
    """Return the column in the one form that its feature type is stored in. Raises `Invalid` naming the first row that does not fit."""
    to = _category_type(values) if kind is FeatureType.CATEGORY else _ARROW.get(kind)
    if to is None:
        raise Invalid(
            f"column {name!r} is a column of single values, not of {kind} values: leave out types={{{name!r}: {kind.value!r}}}",
            errors=[FieldError(f"types.{name}", "number, integer, category, boolean, datetime or text")],
        )
    try:
        if pa.types.is_timestamp(values.type) and values.type.tz is not None:
            values = pc.cast(values, pa.timestamp("us", tz="UTC"))
        return _cast(values, to)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        row, value = _first_misfit(values, to)
        words = "ISO dates, such as 2026-01-31" if kind is FeatureType.DATETIME else f"a {kind}"
        raise Invalid(
            f"column {name!r}, row {row}: {value!r} is not {words}: mend it, or give the column another type "
            f"(types={{{name!r}: 'category'}})",
            errors=[FieldError(f"{name} row {row}", f"{kind}")],
        ) from error


def _category_type(values: pa.ChunkedArray) -> pa.DataType:
    return pa.int64() if pa.types.is_integer(values.type) else pa.large_string()


def _cast(values: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_boolean(to) and pa.types.is_large_string(values.type):
        low = pc.utf8_lower(values)
        if pc.all(pc.is_in(low, pa.array(["true", "false"], pa.large_string()), skip_nulls=True)).as_py() is False:
            raise pa.ArrowInvalid("not booleans")
        return pc.equal(low, "true")
    if pa.types.is_timestamp(to) and pa.types.is_timestamp(values.type) and values.type.tz is not None:
        return pc.cast(pc.cast(values, pa.int64()), to)
    return pc.cast(values, to)


def _first_misfit(values: pa.ChunkedArray, to: pa.DataType) -> tuple[int, Any]:
    """Return the 1-based number and the value of the first row that cannot be cast: by halves, so it is quick."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(values.slice(low, middle - low), to)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    return low + 1, values[low].as_py()
