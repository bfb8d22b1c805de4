"""Which columns a model learns from, and whether it can: what is known from the schema alone, without a row."""

from collections.abc import Iterable, Sequence

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType

WHOLE = (FeatureType.IMAGE, FeatureType.AUDIO, FeatureType.TENSOR)  # columns whose values are arrays


def pick(
    columns: Sequence[Column], target: str | None, features: Sequence[str] | None, where: str, *, texts: bool = False
) -> tuple[Column, tuple[Column, ...]]:
    """Return the target's column and those of the features, in the order of the dataset or as they were named.

    With `texts` the model reads texts: columns of text, unless others are named; a target of text is what a language model learns.
    Raises `Invalid` that names the column that is not there, `Unsupported` for a column of another kind than the model reads.
    """
    goals, chosen = pick_all(columns, (target,) if target else (), features, where, texts=texts)
    return goals[0], chosen


def pick_all(
    columns: Sequence[Column],
    targets: Sequence[str],
    features: Sequence[str] | None,
    where: str,
    *,
    texts: bool = False,
) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """Return the columns of the targets, in their order, and those of the features; as `pick` does of one target."""
    by_name = {column.name: column for column in columns}
    if not targets:
        raise Invalid(
            f"{where} has no target: say which column to predict, with target=…",
            errors=[FieldError("target", f"one of {', '.join(by_name)}")],
        )
    _exist(targets, by_name, where, "target")
    if features is not None:
        _exist(features, by_name, where, "features")
        for target in targets:
            if target in features:
                raise Invalid(
                    f"the target {target!r} cannot be a feature too",
                    errors=[FieldError("features", f"not {target!r}")],
                )
        if twice := {name for name in features if list(features).count(name) > 1}:
            raise Invalid(f"features: {', '.join(sorted(twice))} is named twice")
    goals = tuple(by_name[name] for name in targets)
    if texts:
        return goals, _texts(by_name, goals[0], features, where)
    rest = [name for name in by_name if name not in targets and not by_name[name].pii]
    chosen = tuple(by_name[name] for name in (features or rest))
    if not chosen:
        named = ", ".join(map(repr, targets))
        raise Invalid(f"{where} has no column to learn from beside its target{'s' * (len(goals) > 1)} {named}")
    for goal in goals:
        _no_text(chosen, goal)
    return goals, chosen


def _exist(names: Iterable[str], known: Iterable[str], where: str, field: str) -> None:
    listed = list(known)
    for name in names:
        if name not in listed:
            shown = ", ".join(listed[:30]) + (", …" if len(listed) > 30 else "")
            raise Invalid(
                f"{field}: {where} has no column {name!r}; it has {shown}",
                errors=[FieldError(field, f"one of {shown}")],
            )


def _texts(
    by_name: dict[str, Column], target: Column, features: Sequence[str] | None, where: str
) -> tuple[Column, ...]:
    if target.type == FeatureType.TEXT:
        if features:
            raise Unsupported(
                f"features: a language model learns how the texts of {target.name!r} go on, and reads nothing else: leave features out",
                errors=[FieldError("features", "none, for a target of text")],
            )
        return (target,)
    found = [c for c in by_name.values() if c.type == FeatureType.TEXT and not c.pii and c is not target]
    chosen = tuple(by_name[name] for name in features) if features else tuple(found)
    if other := [column for column in chosen if column.type != FeatureType.TEXT]:
        raise Unsupported(
            f"column {other[0].name!r} is of type {other[0].type}, and the model reads texts only: name columns of text, with features=[…]",
            errors=[FieldError("features", "columns of text")],
        )
    if not chosen:
        raise Invalid(
            f'{where} has no column of text for the model to read; import the one that is meant with types={{"COLUMN": "text"}}',
            errors=[FieldError("features", "a column of text")],
        )
    return chosen


def _no_text(chosen: Sequence[Column], target: Column) -> None:
    for column in chosen:
        if column.type == FeatureType.TEXT:
            raise Unsupported(
                f"column {column.name!r} is text, which this model does not read: begin with a model of texts (pretrained=…, a folder as "
                f"Hugging Face writes it), leave the column out with features=[…], or import it as a category with "
                f'types={{"{column.name}": "category"}}',
                errors=[FieldError(column.name, "a model of texts")],
            )
        if column.type == FeatureType.BOXES:
            raise Unsupported(
                f"column {column.name!r} holds boxes, which no model here learns from: leave it out with features=[…]",
                errors=[FieldError(column.name, "boxes have no encoding")],
            )
    if target.type in (FeatureType.TEXT, FeatureType.IMAGE, FeatureType.DATETIME, FeatureType.BOXES):
        raise Unsupported(
            f"the target {target.name!r} is of type {target.type}, which cannot be predicted: import it as a category "
            f'with types={{"{target.name}": "category"}}, or name another target',
            errors=[FieldError("target", "a number, a category or a boolean")],
        )


def task_of(target: Column) -> str:
    """Return "classification" for categories and booleans, "generation" for text, else "regression"."""
    if target.type == FeatureType.TEXT:
        return "generation"
    return "classification" if target.type in (FeatureType.CATEGORY, FeatureType.BOOLEAN) else "regression"


def layout_of(features: Sequence[Column], images: str) -> str:
    """Return the layout of the encoded array; `images` is that of images in the framework. Raises `Unsupported`.

    A framework whose arrays are flat takes any mixture; the others take scalars, or one image or tensor column.
    """
    if images == "text":
        return "text"
    whole = [column for column in features if column.type in WHOLE]
    if not whole:
        return "table"
    if images == "flat":
        return "flat"
    if len(features) > 1:
        others = [column.name for column in features if column is not whole[0]]
        raise Unsupported(
            f"column {whole[0].name!r} ({whole[0].type}) cannot be fed to the model together with {', '.join(others[:8])}: "
            "name one image or tensor column, or only scalar ones, with features=[…]",
            errors=[FieldError("features", "one image or tensor column, or scalar columns only")],
        )
    return images if whole[0].type == FeatureType.IMAGE and images == "channels_first" else "channels_last"
