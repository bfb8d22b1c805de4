"""Which columns each step takes and leaves, told before a row is read: the server refuses at once what cannot work."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.data import spec_clean as spec

Schema = Mapping[str, Column]
_BLOCKS = (FeatureType.IMAGE, FeatureType.TENSOR, FeatureType.AUDIO, FeatureType.BOXES)
_NUMBERS = (FeatureType.NUMBER, FeatureType.INTEGER)
_WORDS = (FeatureType.TEXT, FeatureType.CATEGORY)


class Planned(NamedTuple):
    """One step, with the columns that it takes, and those there are after it."""

    step: Any  # a step of spec_clean
    takes: tuple[str, ...]
    before: Schema
    after: Schema
    target: str | None  # after it


def plan(steps: Sequence[Any], columns: Sequence[Column], target: str | None) -> list[Planned]:
    """Return the steps with their columns. Raises `Invalid` that names the step and the column."""
    schema: dict[str, Column] = {column.name: column for column in columns}
    found = []
    for number, step in enumerate(steps):
        where = f"steps.{number}"
        takes, after = _HOW[step.step](step, schema, target, where)
        # What is made of a personal column is personal.
        own = {name for name, column in schema.items() if column.pii}
        after = {
            name: column.model_copy(update={"pii": True}) if name in own else column for name, column in after.items()
        }
        if isinstance(step, spec.Rename):
            target = step.names.get(target or "", target)
        if isinstance(step, spec.Series) and step.horizon:
            target = ahead(target or "", step.horizon)
        target = target if target in after else None
        found.append(Planned(step, takes, schema, after, target))
        schema = dict(after)
    return found


_Answer = tuple[tuple[str, ...], Schema]


def _named(names: Sequence[str], schema: Schema, where: str) -> tuple[str, ...]:
    """Return the names. Raises `Invalid` for one that is not there."""
    for name in names:
        if name not in schema:
            listed = ", ".join(list(schema)[:30])
            raise Invalid(
                f"{where}: there is no column {name!r}: the columns are {listed}",
                errors=[FieldError(f"{where}.columns", f"one of {listed}")],
            )
    return tuple(dict.fromkeys(names))


def _of_type(
    names: Sequence[str], schema: Schema, target: str | None, where: str, right: Callable[[Column], bool], words: str
) -> tuple[str, ...]:
    """Return the named columns, or all that are right but the target. Raises `Invalid` for a named one that is not."""
    if not names:
        found = tuple(name for name, column in schema.items() if name != target and right(column))
        if not found:
            raise Invalid(
                f"{where}: there is no column of {words} for it beside the target: leave out the step",
                errors=[FieldError(where, f"a column of {words}")],
            )
        return found
    for name in _named(names, schema, where):
        if not right(schema[name]):
            raise Invalid(
                f"{where}: column {name!r} is of type {schema[name].type}, and the step takes {words}: name another column, or "
                "cast it first",
                errors=[FieldError(f"{where}.columns", words)],
            )
    return tuple(dict.fromkeys(names))


def _duplicates(step: spec.DropDuplicates, schema: Schema, _target: str | None, where: str) -> _Answer:
    return _named(step.columns, schema, where) or tuple(schema), schema


def _blank(step: spec.Blank, schema: Schema, target: str | None, where: str) -> _Answer:
    kinds = (*_WORDS, *_NUMBERS) if step.columns else _WORDS
    takes = _of_type(step.columns, schema, target, where, lambda c: c.type in kinds, "words or numbers")
    numbers = [value for value in step.values if not isinstance(value, str)]
    for name in takes:
        if not numbers and (schema[name].type in _NUMBERS or schema[name].dtype == "int64") and step.columns:
            raise Invalid(
                f"{where}: column {name!r} holds numbers, and none of the values is one: name numbers, such as -999",
                errors=[FieldError(f"{where}.values", "a number")],
            )
    return takes, {**schema, **{name: schema[name].model_copy(update={"nullable": True}) for name in takes}}


def _impute(step: spec.Impute, schema: Schema, target: str | None, where: str) -> _Answer:
    def right(column: Column) -> bool:
        if step.by in ("mean", "median"):
            return column.type in _NUMBERS
        if step.by == "constant":
            return column.type in _takes_constant(step.value)
        return column.type not in _BLOCKS

    words = {"mean": "numbers", "median": "numbers", "constant": f"values such as {step.value!r}"}.get(
        step.by, "single values"
    )
    return _of_type(step.columns, schema, target, where, right, words), schema


def _takes_constant(value: Any) -> tuple[FeatureType, ...]:
    if isinstance(value, bool):
        return (FeatureType.BOOLEAN,)
    if isinstance(value, int):
        return (*_NUMBERS, FeatureType.CATEGORY)
    return (FeatureType.NUMBER,) if isinstance(value, float) else _WORDS


def _outliers(step: spec.Outliers, schema: Schema, target: str | None, where: str) -> _Answer:
    takes = _of_type(step.columns, schema, target, where, lambda column: column.type in _NUMBERS, "numbers")
    if step.do != "flag":
        return takes, schema
    flags = {
        f"{name}_outlier": Column(name=f"{name}_outlier", type=FeatureType.BOOLEAN, dtype="bool", pii=schema[name].pii)
        for name in takes
    }
    _new(list(flags), schema, where)
    return takes, {**schema, **flags}


def _cast(step: spec.Cast, schema: Schema, _target: str | None, where: str) -> _Answer:
    takes = _named(tuple(step.types), schema, where)
    for name in takes:
        if schema[name].type in _BLOCKS or step.types[name] in _BLOCKS:
            raise Invalid(
                f"{where}: column {name!r} is of type {schema[name].type}, which cannot become {step.types[name]}",
                errors=[FieldError(f"{where}.types.{name}", "a type of single values, of a column of single values")],
            )
    cast = {name: _retyped(schema[name], kind) for name, kind in step.types.items()}
    return takes, {**schema, **cast}


def _text(step: spec.Text, schema: Schema, target: str | None, where: str) -> _Answer:
    def right(column: Column) -> bool:
        return column.type is FeatureType.TEXT or (column.type is FeatureType.CATEGORY and column.dtype != "int64")

    return _of_type(step.columns, schema, target, where, right, "text"), schema


def _denoise(step: spec.DenoiseImages, schema: Schema, target: str | None, where: str) -> _Answer:
    return _of_type(step.columns, schema, target, where, lambda c: c.type is FeatureType.IMAGE, "images"), schema


def _smooth(step: spec.Smooth, schema: Schema, target: str | None, where: str) -> _Answer:
    kinds = (FeatureType.NUMBER, FeatureType.TENSOR)
    takes = _of_type(step.columns, schema, target, where, lambda c: c.type in kinds, "numbers or tensors")
    for name in takes:
        if schema[name].shape and schema[name].shape[0] < step.window:
            raise Invalid(
                f"{where}: column {name!r} has {schema[name].shape[0]} points a row, less than the window of {step.window}: "
                "use a shorter window",
                errors=[FieldError(f"{where}.window", f"at most {schema[name].shape[0]}")],
            )
    return takes, schema


def _resample(step: spec.Resample, schema: Schema, _target: str | None, where: str) -> _Answer:
    _of_type([step.time], schema, None, where, lambda c: c.type is FeatureType.DATETIME, "dates and times")
    _named([*step.each, *step.group], schema, where)
    for name, column in schema.items():
        if column.type in _BLOCKS:
            raise Invalid(
                f"{where}: column {name!r} is of type {column.type}, which cannot be aggregated: drop it first",
                errors=[FieldError(where, "columns of single values")],
            )
    for name, how in step.each.items():
        if how in ("mean", "sum", "min", "max") and schema[name].type not in (*_NUMBERS, FeatureType.BOOLEAN):
            raise Invalid(
                f"{where}: column {name!r} is of type {schema[name].type} and has no {how}: use first, last or count",
                errors=[FieldError(f"{where}.each.{name}", "first, last or count")],
            )
    keys = (step.time, *step.group)
    after = {}
    for name, column in schema.items():
        how = step.each.get(name, step.aggregate)
        if name not in keys and (name in step.each or column.type in _NUMBERS):
            column = _retyped(column, aggregated(column.type, how))
        after[name] = column
    return tuple(schema), after


def _series(step: spec.Series, schema: Schema, target: str | None, where: str) -> _Answer:
    _of_type([step.time], schema, None, where, lambda c: c.type is FeatureType.DATETIME, "dates and times")
    _named(step.group, schema, where)
    for name, column in schema.items():
        if column.type in _BLOCKS:
            raise Invalid(
                f"{where}: column {name!r} is of type {column.type}, which is no part of a series: drop it first",
                errors=[FieldError(where, "columns of single values")],
            )
    numbers = _of_type(step.columns, schema, None, where, lambda c: c.type in _NUMBERS, "numbers")
    if step.horizon and (target is None or schema[target].type not in _NUMBERS):
        raise Invalid(
            f"{where}: the target {target or ''!r} is no column of numbers, whose later value could be foretold",
            errors=[FieldError(f"{where}.horizon", "a target of numbers")],
        )
    made = {
        name: Column(name=name, type=FeatureType.NUMBER, dtype="float64", nullable=True, pii=schema[column].pii)
        for column in numbers
        for name in (*(lag(column, n) for n in step.lags), *(mean(column, n) for n in step.windows))
    }
    for word in dict.fromkeys(step.calendar):
        name = f"{step.time}_{word}"
        made[name] = Column(name=name, type=FeatureType.INTEGER, dtype="int64", pii=schema[step.time].pii)
    if step.horizon and target is not None:
        name = ahead(target, step.horizon)
        made[name] = schema[target].model_copy(update={"name": name, "type": FeatureType.NUMBER, "dtype": "float64"})
    _new(list(made), schema, where)
    return tuple(schema), {**schema, **made}


def lag(column: str, rows: int) -> str:
    """Return what the value so many rows before is called."""
    return f"{column}_lag_{rows}"


def mean(column: str, rows: int) -> str:
    """Return what the mean of so many rows is called."""
    return f"{column}_mean_{rows}"


def ahead(column: str, rows: int) -> str:
    """Return what the value so many rows later is called."""
    return f"{column}_ahead_{rows}"


def aggregated(kind: FeatureType, how: str) -> FeatureType:
    """Return what an aggregate of values of a type is."""
    if how == "count" or (how == "sum" and kind is FeatureType.BOOLEAN):
        return FeatureType.INTEGER
    return FeatureType.NUMBER if how == "mean" else kind


def _cap(step: spec.CapCategories, schema: Schema, target: str | None, where: str) -> _Answer:
    kinds = _WORDS if step.columns else (FeatureType.CATEGORY,)
    takes = _of_type(step.columns, schema, target, where, lambda c: c.type in kinds, "categories")
    capped = {name: _retyped(schema[name], FeatureType.CATEGORY, "str") for name in takes}
    return takes, {**schema, **capped}


def _drop(step: spec.Drop, schema: Schema, _target: str | None, where: str) -> _Answer:
    takes = _named(step.columns, schema, where)
    left = {name: column for name, column in schema.items() if name not in takes}
    if not left:
        raise Invalid(f"{where}: no column is left", errors=[FieldError(f"{where}.columns", "not all columns")])
    return takes, left


def _select(step: spec.Select, schema: Schema, _target: str | None, where: str) -> _Answer:
    takes = _named(step.columns, schema, where)
    return takes, {name: schema[name] for name in takes}


def _rename(step: spec.Rename, schema: Schema, _target: str | None, where: str) -> _Answer:
    takes = _named(tuple(step.names), schema, where)
    rest = [name for name in schema if name not in takes]
    _new(list(step.names.values()), {name: schema[name] for name in rest}, where)
    return takes, {
        (new := step.names.get(name, name)): column.model_copy(update={"name": new}) for name, column in schema.items()
    }


def _anonymise(step: Any, schema: Schema, target: str | None, where: str) -> _Answer:
    def right(column: Column) -> bool:
        if step.step != "generalise" or step.prefix is not None:
            return column.type not in _BLOCKS
        return column.type in (_NUMBERS if step.width is not None else (FeatureType.DATETIME,))

    takes = _of_type(step.columns, schema, target, where, right, "values of its kind")
    if step.step == "generalise" and step.date is not None:
        return takes, schema
    return takes, {**schema, **{name: _retyped(schema[name], FeatureType.TEXT, "str") for name in takes}}


def _k_anonymity(step: Any, schema: Schema, target: str | None, where: str) -> _Answer:
    takes = _of_type(step.columns, schema, target, where, lambda c: c.type not in _BLOCKS, "single values")
    if target in takes:
        raise Invalid(
            f"{where}: column {target!r} is the target, of which no less can be said: leave it out",
            errors=[FieldError(f"{where}.columns", "no target")],
        )
    kinds = {name: FeatureType.TEXT if schema[name].pii else FeatureType.CATEGORY for name in takes}
    return takes, {**schema, **{name: _retyped(schema[name], kind, "str") for name, kind in kinds.items()}}


def _retyped(column: Column, kind: FeatureType, dtype: str = "") -> Column:
    return Column(name=column.name, type=kind, dtype=dtype, nullable=True, pii=column.pii)


def _new(names: Sequence[str], schema: Schema, where: str) -> None:
    for at, name in enumerate(names):
        if name in schema or name in names[:at] or not name.strip():
            raise Invalid(
                f"{where}: there would be two columns named {name!r}"
                if name.strip()
                else f"{where}: a column needs a name",
                errors=[FieldError(where, "names that are new")],
            )


_HOW: dict[str, Callable[[Any, Schema, str | None, str], _Answer]] = {
    "drop_duplicates": _duplicates, "impute": _impute, "outliers": _outliers, "cast": _cast, "text": _text,
    "denoise_images": _denoise, "smooth": _smooth, "resample": _resample, "series": _series, "cap_categories": _cap, "drop": _drop,
    "mask": _anonymise, "hash": _anonymise, "generalise": _anonymise, "k_anonymity": _k_anonymity, "blank": _blank, "select": _select, "rename": _rename,
}  # fmt: skip
