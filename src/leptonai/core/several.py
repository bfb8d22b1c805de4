"""What a model is told that takes several inputs, or predicts several targets.

Batches then are NumPy's structured arrays, with a field for each input, or for each target: they are cut, shuffled and put together
like any other array, and `fields` takes them apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from leptonai.core.errors import FieldError, Unsupported

PROBABILITIES = "_probabilities"  # what follows the name of a target of classes, in the outputs of a published model


@dataclass(frozen=True)
class Goal:
    """One of several targets."""

    name: str  # of its column
    task: Literal["classification", "regression"]
    classes: int = 0
    weight: float = 1.0  # of its loss, in the sum that is learnt from


@dataclass(frozen=True)
class Several:
    """The inputs by name, and the targets. Without inputs it takes one array, without goals it has one target."""

    inputs: tuple[str, ...] = ()
    goals: tuple[Goal, ...] = ()


def check_one(train: Mapping[str, Any], what: str) -> None:
    """Raise `Unsupported` where a train spec, as JSON data, is for several targets or inputs, and `what` takes models of one."""
    for field, several in (("target", not isinstance(train["target"], str)), ("inputs", bool(train["inputs"]))):
        if several:
            raise Unsupported(
                f"{field}: {what} takes a model of one {field.removesuffix('s')}, and this one has several",
                errors=[FieldError(field, "one")],
            )


def packed(arrays: Mapping[str, Any]) -> Any:
    """Return one array (rows,) with a field for each of these NumPy arrays, whose first axis is the rows."""
    first = next(iter(arrays.values()))
    fields = [(name, values.dtype, values.shape[1:]) for name, values in arrays.items()]
    found = type(first)(len(first), fields)  # NumPy's array, by its own type: core imports no library
    for name, values in arrays.items():
        found[name] = values
    return found


def fields(values: Any) -> dict[str, Any]:
    """Return what `packed` packed, each by itself and in one piece."""
    return {name: values[name].copy() for name in values.dtype.names}
