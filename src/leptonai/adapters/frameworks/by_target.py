"""Several targets of one model, whatever it is written in: its outputs told apart, and what was given for each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from leptonai.adapters.frameworks.shapes import a_row, check_outputs
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.several import Goal


def told_apart(given: Any, goals: Sequence[Goal], outputs: Sequence[str] = ()) -> dict[str, Any]:
    """Return a model's outputs by target: a dict has their names, several without names are in the order of the targets.

    `outputs`: the names of outputs that come in an order, where the model has names for them; they count if one is a target. Raises
    `Invalid` where outputs and targets are not the same.
    """
    names = [goal.name for goal in goals]
    if isinstance(given, (tuple, list)) and len(given) == len(outputs) and set(outputs) & set(names):
        given = dict(zip(outputs, given, strict=True))
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise Invalid(
                f"the model gives outputs {', '.join(map(str, given))} for the targets {', '.join(names)}: {_apart(given, names)}"
            )
        return {name: given[name] for name in names}
    if isinstance(given, (tuple, list)):
        if len(given) != len(names):
            raise Invalid(f"the model gives {len(given)} outputs for {len(names)} targets, {', '.join(names)}")
        return dict(zip(names, given, strict=True))
    values = all(goal.task == "regression" for goal in goals)
    shape = tuple(getattr(given, "shape", ()))
    if values and len(shape) == 2 and shape[1] == len(names):
        return {name: given[:, place] for place, name in enumerate(names)}
    raise Invalid(
        f"the model gives one {type(given).__name__} for {len(names)} targets: return a dict by target, or a tuple in their order"
    )


def _apart(given: Mapping[str, Any], names: Sequence[str]) -> str:
    if lacking := [name for name in names if name not in given]:
        return f"no output is called {lacking[0]!r}"
    return f"{next(name for name in given if name not in names)!r} is no target"


def for_each(given: Any, goals: Sequence[Goal], field: str) -> dict[str, Any]:
    """Return what was given for each target, by name or in their order; what is given alone is for all of them. Raises `Invalid`."""
    names = [goal.name for goal in goals]
    if isinstance(given, Mapping):
        known(given, names, field)
        return {name: given.get(name) for name in names}
    if not isinstance(given, list):
        return dict.fromkeys(names, given)
    if len(given) != len(names):
        raise Invalid(
            f"{field}: {len(given)} are given for {len(names)} targets",
            errors=[FieldError(field, "one for each target")],
        )
    return dict(zip(names, given, strict=True))


def known(given: Mapping[str, Any], names: Sequence[str], field: str) -> None:
    """Raise `Invalid` where something is given for what is no target."""
    if strange := [name for name in given if name not in names]:
        raise Invalid(
            f"{field}: {strange[0]!r} is none of the targets {', '.join(names)}",
            errors=[FieldError(f"{field}.{strange[0]}", f"one of {', '.join(names)}")],
        )


def check_goal(goal: Goal, output: tuple[int, ...], target: tuple[int, ...], kind: str) -> None:
    """Raise `Invalid` that names the target when outputs of this shape, or this kind of loss, are not for it."""
    try:
        if goal.task == "regression" and output[1:] not in ((), (1,)):
            raise Invalid(f"the target is one number a row, and the model gives {a_row(output)}")
        if goal.task == "regression" and kind in ("index", "sparse"):
            raise Invalid("the loss is for classes, and the target is a number: use a loss such as 'mse'")
        check_outputs(output, target, goal.task, goal.classes, "index" if kind == "sparse" else kind)
    except Invalid as error:
        raise Invalid(f"target {goal.name!r}: {error.message}", errors=error.errors) from error
