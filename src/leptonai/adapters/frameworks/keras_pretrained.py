"""Weights from elsewhere in a Keras model: matched by the paths of variables, else by their order; the head may be new."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from leptonai.adapters.frameworks import arrays
from leptonai.core.beginning import Beginning, lacking, strangers, unlike, unreadable
from leptonai.core.errors import FieldError, Invalid


def take(variables: Sequence[Any], names: Sequence[str], beginning: Beginning) -> dict[str, Any]:
    """Put the weights into a model's variables, and return what was taken, what is new and what is not used.

    Keras numbers the names of layers anew in each process, so weights that it wrote are paired in their order. Raises `Invalid`.
    """
    values, order = _read(beginning)
    pairs = _pairs(names, values, order)
    if not pairs:
        raise strangers(beginning.source, list(values), names)
    ours, theirs = _head(names), _head(order)
    shapes = {name: tuple(variable.shape) for name, variable in zip(names, variables, strict=True)}
    taken, wrong = {}, []
    for name, there in pairs.items():
        if name in ours and not beginning.head:
            continue
        if shapes[name] == tuple(values[there].shape):
            taken[name] = there
        elif name not in ours and there not in theirs:
            wrong.append((name, shapes[name], tuple(values[there].shape)))
    if wrong:
        raise unlike(beginning.source, wrong)
    last = max((place for place, name in enumerate(names) if name in taken), default=-1)
    if missing := [name for name in names[:last] if name not in taken and name not in ours]:
        raise lacking(beginning.source, missing, len(names))
    for name, variable in zip(names, variables, strict=True):
        if name in taken:
            variable.assign(values[taken[name]])
    return {
        "source": beginning.source,
        "tensors": len(values),
        "taken": len(taken),
        "unused": len(values) - len(set(taken.values())),
        "new": [name for name in names if name not in taken],
    }


def _read(beginning: Beginning) -> tuple[dict[str, Any], list[str]]:
    from safetensors import SafetensorError

    values: dict[str, Any] = {}
    order: list[str] = []
    for data in beginning.weights:
        try:
            found, about = arrays.parse(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise unreadable(beginning.source) from error
        values.update(found)
        order += about.get("order", list(found))
    return values, [name for name in order if name in values]


def _pairs(names: Sequence[str], values: Mapping[str, Any], order: Sequence[str]) -> dict[str, str]:
    body = [name for name in names if name not in _head(names)]
    if body and all(name in values for name in body):
        return {name: name for name in names if name in values}
    return dict(zip(names, order, strict=False))


def _head(names: Sequence[str]) -> set[str]:
    """Return the names of the last layer's variables."""
    layer = names[-1].rpartition("/")[0] if names else ""
    return {name for name in names if name.rpartition("/")[0] == layer}


def wanted(task: str, classes: int, outputs: tuple[int, ...], y: Any) -> int | None:
    """Return how many outputs the target needs; None where the model has as many."""
    have = outputs[-1] if len(outputs) > 1 else 1
    if task == "classification":
        return None if have == classes or (have == 1 and classes == 2) else classes
    need = int(y.shape[-1]) if y.ndim > 1 else 1
    return None if have == need else need


def with_head(config: Mapping[str, Any], units: int) -> dict[str, Any]:
    """Return a model's description with so many units in its last dense layer. Raises `Invalid` where there is none."""
    found: dict[str, Any] = copy.deepcopy(dict(config))
    layers = found.get("config", {}).get("layers", [])
    dense = [layer for layer in layers if layer.get("class_name") == "Dense"]
    if not dense:
        raise Invalid(
            f"pretrained: the target needs {units} outputs, and a model of the class {found.get('class_name')} has no dense layer that "
            "can be made anew: give a model",
            errors=[FieldError("pretrained", "a sequential or functional model that ends with a dense layer")],
        )
    dense[-1]["config"]["units"] = units
    return found
