"""From rows as people have them to the array a model takes; fitted on the training part only.

The rules stand in `spec.FeatureCode` and `spec.Encoding`; a published model computes the same inside its ONNX graph.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.nouns import Column
from leptonai.core.several import packed
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Reader
from leptonai.training import several
from leptonai.training.columns import WHOLE, layout_of, pick_all, task_of
from leptonai.training.spec import Encoding, FeatureCode, GoalCode

Array = NDArray[Any]
_BATCH = 65_536
_NUMERIC = (FeatureType.NUMBER, FeatureType.INTEGER, FeatureType.DATETIME)


@dataclass(frozen=True)
class Options:
    """What the user asked for, and what the model's framework takes."""

    category_encoding: Literal["index", "onehot"] = "index"
    scale: bool = True
    images: Literal["channels_first", "channels_last", "flat", "text"] = "channels_last"  # text: it reads texts
    # names: whole numbers of features are categories · moments: times are told as their day and its seconds
    columns: Literal["values", "names", "moments"] = "values"
    dtype: Literal["float32", "int64"] = "float32"
    where: str = "the dataset"  # for messages
    values: frozenset[str] = (
        frozenset()
    )  # targets that are learnt as values: whole numbers that could be classes are none
    weights: Mapping[str, float] = field(default_factory=dict)  # of several targets
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of several inputs: the columns in each


@dataclass
class _Seen:
    """What one pass over a column tells: of numbers the moments (Chan, Golub, LeVeque 1979), of others the values."""

    count: int = 0
    missing: int = 0
    infinite: int = 0
    mean: float = 0.0
    m2: float = 0.0
    values: set[Any] = field(default_factory=set)

    def add_numbers(self, values: Array) -> None:
        numbers = numbers_of(values)
        known = numbers[~np.isnan(numbers)]
        self.missing += len(numbers) - len(known)
        finite = known[np.isfinite(known)]
        self.infinite += len(known) - len(finite)
        if not len(finite):
            return
        mean = float(finite.mean())
        m2 = float(np.square(finite - mean).sum())
        total = self.count + len(finite)
        apart = mean - self.mean
        self.m2 += m2 + apart * apart * self.count * len(finite) / total
        self.mean += apart * len(finite) / total
        self.count = total

    def add_values(self, values: Array) -> None:
        found = set(values.tolist())
        self.missing += sum(1 for value in values.tolist() if _is_missing(value)) if any(map(_is_missing, found)) else 0
        self.values |= {value for value in found if not _is_missing(value)}

    @property
    def std(self) -> float:
        std = math.sqrt(self.m2 / self.count) if self.count else 0.0
        return std if std > 0 and math.isfinite(std) else 1.0


_NO_TIME = np.iinfo(np.int64).min  # how a Reader writes a missing datetime


def numbers_of(values: Any) -> Array:
    """Return scalars as float64, NaN where one is missing."""
    given = np.asarray(values)
    numbers: Array = given.astype(np.float64)
    if given.dtype == np.int64:
        numbers[given == _NO_TIME] = np.nan
    return numbers


def _is_missing(value: object) -> bool:
    return value is None or value != value


def fit(
    reader: Reader, features: Sequence[str] | None, target: str | Sequence[str] | None, options: Options
) -> Encoding:
    """Look at the training part once and fix how rows are encoded. Raises `Invalid` or `Unsupported`, naming the column."""
    asked = target or reader.target or ()
    named = (asked,) if isinstance(asked, str) else tuple(asked)
    goals, chosen = pick_all(reader.columns, named, features, options.where, texts=options.images == "text")
    goals = tuple(_as_value(goal) if goal.name in options.values else goal for goal in goals)
    chosen = tuple(map(_as_name, chosen)) if options.columns == "names" else chosen
    inputs = several.input_codes(options.inputs, chosen, options.images)
    chosen = several.columns_in(options.inputs, chosen) if inputs else chosen
    layout = "table" if inputs else layout_of(chosen, options.images)
    if not reader.rows:
        raise Invalid(f"{options.where} has no rows to learn from")
    seen = _look(reader, goals, chosen)
    codes = [_goal(goal, seen[goal.name], options) for goal in goals]
    alone = len(goals) == 1
    return Encoding(
        features=tuple(_code(column, seen.get(column.name, _Seen()), options) for column in chosen),
        layout=cast(Any, layout),
        dtype="float32" if inputs else options.dtype,
        target=goals[0].name,
        task=cast(Any, task_of(goals[0])) if alone else "several",
        classes=codes[0].classes if alone and codes[0] else (),
        goals=() if alone else tuple(code for code in codes if code),
        inputs=inputs,
    )


def _as_value(goal: Column) -> Column:
    """Return the column as one of amounts, where its whole numbers could be names: the loss, or the estimator, says that they are none."""
    names = goal.type == FeatureType.CATEGORY and goal.dtype == "int64"
    return goal.model_copy(update={"type": FeatureType.INTEGER}) if names else goal


def _as_name(column: Column) -> Column:
    """Return the column as one of names, where it holds whole numbers."""
    whole = column.type == FeatureType.INTEGER
    return column.model_copy(update={"type": FeatureType.CATEGORY, "dtype": "int64"}) if whole else column


def _goal(goal: Column, seen: _Seen, options: Options) -> GoalCode | None:
    """Return what is known of a target; None of one of text, which has no more."""
    _check_target(goal, seen, options.where)
    task = task_of(goal)
    if task == "generation":
        return None
    classes = _classes(goal, seen) if task == "classification" else ()
    return GoalCode(column=goal.name, task=cast(Any, task), classes=classes, weight=options.weights.get(goal.name, 1.0))


def _look(reader: Reader, goals: Sequence[Column], chosen: Sequence[Column]) -> dict[str, _Seen]:
    used = [*(column for column in chosen if column.type not in WHOLE), *goals]
    columns = {column.name: column for column in used if column.type != FeatureType.TEXT}
    if not columns:
        return {goal.name: _Seen() for goal in goals}
    seen = {name: _Seen() for name in columns}
    for batch in reader.batches(_BATCH, columns=tuple(columns)):
        for name, column in columns.items():
            if column.type in _NUMERIC or column.type in WHOLE:
                seen[name].add_numbers(batch[name].reshape(-1))
            else:
                seen[name].add_values(batch[name])
    return seen


def _check_target(goal: Column, seen: _Seen, where: str) -> None:
    rows = "row" if seen.missing == 1 else "rows"
    if seen.missing:
        raise Invalid(
            f"the target {goal.name!r} is empty in {seen.missing} {rows} of {where}: remove them, or fill them in",
            errors=[FieldError(goal.name, f"missing in {seen.missing} {rows}")],
        )
    if seen.infinite:
        raise Invalid(
            f"the target {goal.name!r} is infinite in {seen.infinite} rows of {where}: remove or correct them",
            errors=[FieldError(goal.name, "infinite")],
        )
    if task_of(goal) == "classification" and len(seen.values) < 2:
        only = next(iter(seen.values), None)
        raise Invalid(
            f"the target {goal.name!r} has one class only, {only!r}, in {where}: there is nothing to tell apart",
            errors=[FieldError(goal.name, "at least two classes")],
        )


def _classes(goal: Column, seen: _Seen) -> tuple[str | int, ...]:
    # All classes of the dataset, not only those of its training part: a class number must not depend on the split.
    if goal.type == FeatureType.BOOLEAN:
        return (0, 1)
    found = set(goal.categories) | {_plain(value) for value in seen.values}
    return tuple(sorted(found, key=lambda value: (isinstance(value, str), value)))


def _plain(value: Any) -> str | int:
    return value if isinstance(value, str) else int(value)


def _code(column: Column, seen: _Seen, options: Options) -> FeatureCode:
    about: dict[str, Any] = {
        "column": column.name,
        "type": column.type.value,
        "dtype": column.dtype,
        "shape": column.shape,
    }
    if column.type in WHOLE:
        op = "image" if column.type == FeatureType.IMAGE else "tensor"
        return FeatureCode(op=op, rate=column.stats.get("rate"), **about)
    if column.type == FeatureType.TEXT:
        return FeatureCode(op="text", **about)
    if column.type == FeatureType.BOOLEAN:
        return FeatureCode(op="flag", **about)
    if column.type == FeatureType.CATEGORY:
        values = {_plain(value) for value in seen.values}
        known = tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))
        onehot = options.category_encoding == "onehot" and options.dtype == "float32"
        return FeatureCode(op="onehot" if onehot else "index", categories=known, **about)
    if seen.infinite:
        raise Invalid(
            f"column {column.name!r} is infinite in {seen.infinite} rows of {options.where}: remove or correct them, "
            "or leave the column out with features=[…]",
            errors=[FieldError(column.name, "infinite")],
        )
    if options.dtype == "int64":
        return _whole_number(column, seen, about)
    if column.type == FeatureType.DATETIME and options.columns == "moments":
        return FeatureCode(op="moment", **about)
    if column.type == FeatureType.DATETIME:
        return FeatureCode(op="time", mean=seen.mean, std=seen.std, **about)
    if not options.scale:
        return FeatureCode(op="raw", **about)
    return FeatureCode(op="scale", mean=seen.mean, std=seen.std, **about)


def _whole_number(column: Column, seen: _Seen, about: dict[str, Any]) -> FeatureCode:
    out = f"the model begins with an embedding, which takes whole numbers, and column {column.name!r}"
    way = "leave it out with features=[…]"
    if column.type == FeatureType.DATETIME:
        raise Unsupported(f"{out} is a datetime: {way}", errors=[FieldError(column.name, "a whole number")])
    if seen.missing:
        raise Invalid(
            f"{out} is empty in {seen.missing} rows: fill them in, or {way}",
            errors=[FieldError(column.name, "missing")],
        )
    return FeatureCode(op="raw", **about)


# ------------------------------------------------------------------------------------------------------- encode


def width(feature: FeatureCode) -> int:
    """Return how many columns of a table (or of a flat array) a feature fills."""
    if feature.op == "moment":
        return 2
    return len(feature.categories) if feature.op == "onehot" else math.prod(feature.shape)


def encode(encoding: Encoding, batch: Mapping[str, Any]) -> Array:
    """Return the array the model takes, float32 or int64, for a batch of columns as a `Reader` gives them."""
    missing = [feature.column for feature in encoding.features if feature.column not in batch]
    if missing:
        raise Invalid(
            f"the model needs column {missing[0]!r}, which the data does not have",
            errors=[FieldError(name, "missing column") for name in missing],
        )
    if encoding.inputs:
        sides: Array = packed({part.name: encode(several.of_input(encoding, part), batch) for part in encoding.inputs})
        return sides
    if encoding.layout == "text":
        return joined([batch[feature.column] for feature in encoding.features])
    if encoding.layout in ("channels_first", "channels_last"):
        whole: Array = _whole(encoding.features[0], batch[encoding.features[0].column])
        if encoding.layout == "channels_first":
            whole = whole.transpose(0, 3, 1, 2)
        return whole if encoding.dtype == "float32" else _integers(whole, encoding.features[0].column)
    rows = len(batch[encoding.features[0].column])
    x = np.empty((rows, sum(map(width, encoding.features))), dtype=encoding.dtype)
    at = 0
    for feature in encoding.features:
        to = at + width(feature)
        _ENCODE[feature.op](feature, batch[feature.column], x[:, at:to])
        at = to
    return x


def joined(columns: Sequence[Any]) -> Array:
    """Return one str a row, object (rows,): the texts of the columns line by line; a missing one is empty."""
    rows = zip(*(np.asarray(column, object).tolist() for column in columns), strict=True)
    texts = ["\n".join("" if _is_missing(text) else str(text) for text in row) for row in rows]
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def _whole(feature: FeatureCode, given: Any) -> Array:
    values: Array = np.asarray(given)
    if tuple(values.shape[1:]) != feature.shape:
        raise Invalid(
            f"column {feature.column!r} has values of shape {tuple(values.shape[1:])}, and the model learnt from {feature.shape}",
            errors=[FieldError(feature.column, f"shape {feature.shape}")],
        )
    if feature.op == "image":
        return np.divide(values, np.float32(255), dtype=np.float32)
    return values.astype(np.float32)


def _integers(values: Array, column: str) -> Array:
    if not np.isfinite(values).all():
        raise Invalid(f"column {column!r} has a value that is no whole number, which the model's embedding needs")
    return values.astype(np.int64)


def _scaled(feature: FeatureCode, values: Any, out: Array) -> None:
    scaled = (numbers_of(values) - feature.mean) / feature.std
    scaled[np.isnan(scaled)] = 0.0
    with np.errstate(over="ignore"):  # beyond float32 is infinite, as in the graph
        out[:, 0] = scaled


def _moment(feature: FeatureCode, values: Any, out: Array) -> None:  # noqa: ARG001  (one shape for all)
    given = np.asarray(values)
    micro = (given.astype("datetime64[us]") if given.dtype.kind == "M" else given).astype(np.int64)
    out[:, 0], rest = np.divmod(micro, 86_400_000_000)
    out[:, 1] = rest / 1_000_000
    out[micro == _NO_TIME] = np.nan


def _raw(feature: FeatureCode, values: Any, out: Array) -> None:
    values = np.asarray(values)
    if out.dtype == np.int64 and values.dtype.kind == "f":
        values = _integers(values, feature.column)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, as in the graph
        out[:, 0] = values


def _flag(feature: FeatureCode, values: Any, out: Array) -> None:  # noqa: ARG001  (one shape for all)
    out[:, 0] = np.asarray(values) == True  # noqa: E712  (None, too, is not true)


def positions(values: Any, known: Sequence[Any], first: int = 0, other: int = -1) -> Array:
    """Return the position of each value in `known`, counted from `first`; `other` for a value that is not there."""
    array = np.asarray(values)
    if not known:
        return np.full(len(array), other, dtype=np.int64)
    if array.dtype.kind in "iub" and all(isinstance(value, int) for value in known):
        sorter = np.argsort(known)
        ordered = np.asarray(known)[sorter]
        place = np.minimum(np.searchsorted(ordered, array), len(known) - 1)
        return np.where(ordered[place] == array, sorter[place] + first, other).astype(np.int64)
    table = {value: place for place, value in enumerate(known, first)}
    return np.fromiter(map(table.get, array.tolist(), repeat(other)), dtype=np.int64, count=len(array))


def _index(feature: FeatureCode, values: Any, out: Array) -> None:
    out[:, 0] = positions(values, feature.categories, first=1, other=0)


def _onehot(feature: FeatureCode, values: Any, out: Array) -> None:
    out[:] = positions(values, feature.categories)[:, None] == np.arange(len(feature.categories))


def _flat(feature: FeatureCode, values: Any, out: Array) -> None:
    whole = _whole(feature, values)
    out[:] = whole.reshape(len(whole), -1)


_ENCODE: dict[str, Callable[[FeatureCode, Any, Array], None]] = {
    "scale": _scaled, "time": _scaled, "moment": _moment, "raw": _raw, "flag": _flag, "index": _index, "onehot": _onehot,
    "image": _flat, "tensor": _flat,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------ targets


def targets(encoding: Encoding, batch: Mapping[str, Any]) -> Array:
    """Return class numbers (int64) or values (float32), one a row; of several targets a field for each.

    Raises `Invalid` for a class that is not known.
    """
    if encoding.goals:
        each: Array = packed({goal.column: targets(several.of_goal(encoding, goal), batch) for goal in encoding.goals})
        return each
    if encoding.target not in batch:
        raise Invalid(f"the data has no column {encoding.target!r}, which is the model's target")
    values = batch[encoding.target]
    if encoding.task == "generation":
        return joined([values])
    if encoding.task == "regression":
        found = np.asarray(values, dtype=np.float32)
        if not np.isfinite(found).all():
            bad = int(np.count_nonzero(~np.isfinite(found.reshape(len(found), -1)).all(axis=1)))
            raise Invalid(f"the target {encoding.target!r} is empty or infinite in {bad} rows: remove or correct them")
        return found
    index = positions(values, encoding.classes)
    if (index < 0).any():
        strange = _first(values, index)
        raise Invalid(
            f"the target {encoding.target!r} has the value {strange!r}, which is none of the classes learnt: "
            f"{', '.join(map(str, encoding.classes[:20]))}",
            errors=[FieldError(encoding.target, f"one of {', '.join(map(str, encoding.classes[:20]))}")],
        )
    return index


def _first(values: Iterable[Any], index: Array) -> Any:
    return next(value for value, place in zip(values, index.tolist(), strict=True) if place < 0)


def column_names(encoding: Encoding, *, target: bool) -> tuple[str, ...]:
    """Return the columns to read, with the target or without."""
    names = tuple(feature.column for feature in encoding.features)
    return (*names, *encoding.targets) if target else names
