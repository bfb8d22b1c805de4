"""Whether steps of augmentation fit the columns: what is known from the schema alone, without a row."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.training.augment.spec import FITS, Cutmix, Mixup, Smote, Steps

_MOVES = ("flip", "shift", "rotate", "crop", "cutout", "cutmix")


def known_steps(steps: Sequence[Any]) -> list[dict[str, Any]]:
    """Return steps as JSON data, whole. Raises `Invalid` for one that is not known, or whose settings are not."""
    try:
        known = Steps(augment=tuple(steps)).augment
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise Invalid(f"{where}: {problem['msg']}", errors=[FieldError(where, problem["msg"])]) from error
    return [step.model_dump(mode="json", exclude_none=True) for step in known]


def check_fitting(steps: Sequence[Any], columns: Sequence[Mapping[str, Any]], target: str | None) -> None:
    """Raise `Invalid` for a step, as JSON data, that fits none of a dataset's columns: as much as is known before a training."""
    known = [Column.model_validate(column) for column in columns]
    goal = next((column for column in known if column.name == target), None)
    features = [column for column in known if column is not goal]
    classes = goal is None or goal.type in (FeatureType.CATEGORY, FeatureType.BOOLEAN)
    for step in Steps(augment=tuple(steps)).augment:
        fits = [column for column in features if column.type in FITS[step.op]]  # of which a training may choose some
        check_steps([step], fits or features, classes=classes)


def check_steps(steps: Sequence[Any], features: Sequence[Column], *, classes: bool, arrays: bool = False) -> None:
    """Raise `Invalid` for a step that fits none of the columns a model learns from.

    `classes`: whether the target is classes; `arrays`: whether it is arrays, which would not follow when an image is moved.
    """
    for number, step in enumerate(steps):
        field = f"augment.{number}.{step.op}"
        if arrays and step.op in _MOVES:
            raise Invalid(
                f"augment: {step.op} moves what is in an image, and the target, an array for each row, would not follow: leave it out",
                errors=[FieldError(field, "not where the target is an array")],
            )
        fits = [column for column in features if column.type in FITS[step.op]]
        kinds = ", ".join(FITS[step.op])
        for name in getattr(step, "columns", None) or ():
            if name not in {column.name for column in fits}:
                raise Invalid(
                    f"augment: {step.op} cannot change column {name!r}: name columns that the model learns from, of type {kinds}",
                    errors=[FieldError(f"{field}.columns", f"columns of type {kinds}")],
                )
        alone = isinstance(step, (Cutmix, Mixup, Smote)) and len(fits) < len(features)
        if not fits or alone:
            found = ", ".join(f"{column.name} ({column.type})" for column in features[:8])
            raise Invalid(
                f"augment: {step.op} {'takes only' if alone else 'needs'} columns of type {kinds}, and the model learns from {found}",
                errors=[FieldError(field, f"columns of type {kinds}")],
            )
        if isinstance(step, Smote) and not classes:
            raise Invalid(
                "augment: smote evens out classes, and the target is a number: leave it out",
                errors=[FieldError(field, "a target of classes")],
            )
