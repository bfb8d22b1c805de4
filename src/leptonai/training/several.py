"""Several inputs and several targets of one model: which columns are in which, and how batches of them are made."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.nouns import Column
from leptonai.core.several import Goal, Several
from leptonai.training.columns import WHOLE, layout_of
from leptonai.training.spec import Encoding, GoalCode, InputCode, Train


def targets_of(spec: Train, declared: str | None) -> tuple[str, ...]:
    """Return the columns to predict: those that were asked for, else the dataset's."""
    asked = spec.target or declared
    return () if not asked else (asked,) if isinstance(asked, str) else asked


def how(encoding: Encoding) -> Several:
    """Return what a Learner is told."""
    goals = tuple(Goal(goal.column, goal.task, len(goal.classes), goal.weight) for goal in encoding.goals)
    return Several(tuple(part.name for part in encoding.inputs), goals)


def of_goal(encoding: Encoding, goal: GoalCode) -> Encoding:
    """Return the encoding as it would be if this were the only target."""
    alone = {"target": goal.column, "task": goal.task, "classes": goal.classes, "goals": ()}
    return encoding.model_copy(update=alone)


def of_input(encoding: Encoding, part: InputCode) -> Encoding:
    """Return the encoding as it would be if this were the only input."""
    known = {feature.column: feature for feature in encoding.features}
    features = tuple(known[name] for name in part.columns)
    return encoding.model_copy(update={"features": features, "layout": part.layout, "inputs": ()})


def inputs_of(
    asked: Mapping[str, Sequence[str]], takes: Sequence[str], features: Sequence[Column]
) -> dict[str, tuple[str, ...]]:
    """Return which columns are in which input of a model that takes several; nothing of one that takes one.

    `asked`: what the user said; without that an input that is called like a column takes it, and one that is left over takes all other
    columns. `takes`: the names of the model's inputs, where they are known. Raises `Invalid` that names what does not fit.
    """
    if not asked and len(takes) < 2:
        return {}
    found = {name: tuple(columns) for name, columns in asked.items()} or _by_name(takes, features)
    if takes and (strange := [name for name in found if name not in takes]):
        raise Invalid(
            f"inputs: the model has no input {strange[0]!r}; it has {', '.join(takes)}",
            errors=[FieldError(f"inputs.{strange[0]}", f"one of {', '.join(takes)}")],
        )
    if lacking := [name for name in takes if name not in found]:
        raise Invalid(
            f"inputs: nothing is said of the model's input {lacking[0]!r}: name the columns in it",
            errors=[FieldError(f"inputs.{lacking[0]}", "columns")],
        )
    known = [column.name for column in features]
    for name, columns in found.items():
        if not columns:
            raise Invalid(f"inputs: {name!r} has no column", errors=[FieldError(f"inputs.{name}", "columns")])
        if gone := [column for column in columns if column not in known]:
            raise Invalid(
                f"inputs: {name!r} takes the column {gone[0]!r}, which is none that the model learns from: {', '.join(known[:30])}",
                errors=[FieldError(f"inputs.{name}", f"of {', '.join(known[:30])}")],
            )
        layout_of([column for column in features if column.name in columns], "channels_last")
    return found


def _by_name(takes: Sequence[str], features: Sequence[Column]) -> dict[str, tuple[str, ...]]:
    names = [column.name for column in features]
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in takes if name in names}
    left = [name for name in takes if name not in found]
    rest = tuple(name for name in names if name not in found)
    if len(left) == 1 and rest:
        found[left[0]] = rest
    elif left:
        said = ", ".join(f"{name!r}: […]" for name in takes)
        raise Invalid(
            f"the model takes {len(takes)} inputs, {', '.join(takes)}: say which columns are in each, with inputs={{{said}}}",
            errors=[FieldError("inputs", "the columns of each input")],
        )
    return {name: found[name] for name in takes}


def input_codes(inputs: Mapping[str, Sequence[str]], features: Sequence[Column], images: str) -> tuple[InputCode, ...]:
    """Return how each input is encoded; `images`: the layout of images in the framework."""
    made = []
    for name, columns in inputs.items():
        layout = layout_of([column for column in features if column.name in columns], images)
        if layout not in ("table", "channels_last", "channels_first"):
            raise Unsupported(f"inputs: a model whose arrays are {layout} takes one input")
        made.append(InputCode(name=name, columns=tuple(columns), layout=cast(Any, layout)))
    return tuple(made)


def columns_in(inputs: Mapping[str, Sequence[str]], features: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns that are in an input, in the order of the dataset."""
    used = {name for columns in inputs.values() for name in columns}
    return tuple(column for column in features if column.name in used)


def check(spec: Train, goals: Sequence[Column], framework: str, *, able: bool) -> None:
    """Raise `Unsupported`, or `Invalid`, for what cannot be done with several inputs or targets. `able`: whether the framework can at all."""
    several = len(goals) > 1
    if strange := [name for name in spec.loss_weights if name not in {goal.name for goal in goals} or not several]:
        raise Invalid(
            f"loss_weights: {strange[0]!r} is none of several targets",
            errors=[FieldError(f"loss_weights.{strange[0]}", "one of several targets")],
        )
    if not several and not spec.inputs:
        return
    what = "several targets" if several else "several inputs"
    if not able:
        field = "target" if several else "inputs"
        raise Unsupported(
            f"{field}: a model of {framework} cannot have {what}; one of PyTorch or Keras can",
            errors=[FieldError(field, "one")],
        )
    if whole := [goal for goal in goals if several and goal.type in WHOLE]:
        raise Unsupported(
            f"target: {whole[0].name!r} holds an array for each row, which is predicted alone: name one target, or several of numbers and "
            "classes",
            errors=[FieldError("target", "numbers and classes")],
        )
    of_one = ["class_weights", "balanced_sampling", "label_smoothing", "mitigate"] if several else []
    for name in (*of_one, "adversarial", "lora"):
        if name in spec.learning.asked:
            raise Unsupported(
                f"{name} is for a model of one {'target' if name in of_one else 'input and one target'}, and this one has {what}: leave it out",
                errors=[FieldError(f"learning.{name}", f"not with {what}")],
            )
    mixing = ("mixup", "cutmix", "smote")
    for step in spec.augment or ():
        if spec.inputs or step.op in mixing:
            raise Unsupported(
                f"augment: {step.op} is not for a model of {'several inputs' if spec.inputs else what}: leave it out",
                errors=[FieldError("augment", "left out")],
            )
