"""A Keras model given its inputs by name, with its outputs told apart by target."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from leptonai.adapters.frameworks.by_target import told_apart
from leptonai.core.several import Several, fields


class Fed(keras.Model):  # type: ignore[misc]
    """What learns in place of a user's model of several inputs or targets; its weights are the user's model's.

    A functional model gets its inputs as it was made with them, by the names of its input layers; any other gets a dict by name.
    """

    def __init__(self, module: Any, how: Several):
        super().__init__()
        self.module, self.how = module, how

    def call(self, x: Any, training: Any = None) -> Any:
        """Return a dict by the keys of the targets, or the output for the only one. `x`: a dict by input, or the only one."""
        given = self.raw(x, training)
        if not self.how.goals:
            return given
        found = told_apart(given, self.how.goals, outputs_of(self.module))
        return {key: found[name] for name, key in keys_of(self.how).items()}

    def raw(self, x: Any, training: Any = None) -> Any:
        """Return what the user's model gives."""
        if self.how.inputs and (made := _inputs(self.module)):
            x = keras.tree.pack_sequence_as(self.module.input, [x[tensor.name] for tensor in made])
        return self.module(x, training=training)


def keys_of(how: Several) -> dict[str, str]:
    """Return what stands for each target where Keras makes names of it: TensorFlow takes no spaces and few signs."""
    return {goal.name: f"t{place}" for place, goal in enumerate(how.goals)}


def inputs_of(model: Any) -> list[str]:
    """Return the names of a functional model's input layers; nothing of another one, which does not say."""
    return [tensor.name for tensor in _inputs(model)]


def _inputs(model: Any) -> list[Any]:
    found = getattr(model, "inputs", None)  # only a functional model that is built has them
    return list(found) if isinstance(found, (list, tuple)) and len(found) > 1 else []


def outputs_of(model: Any) -> list[str]:
    """Return the names of a functional model's outputs, those of their layers; nothing of another one."""
    return list(getattr(model, "output_names", ()))


def in_order(model: Any) -> Callable[..., Any]:
    """Return a function of a model's inputs, one after the other, that gives a tuple in the order of the targets, or one tensor."""
    if not isinstance(model, Fed):
        return lambda x: model(x, training=False)

    def compute(*given: Any) -> Any:
        names = model.how.inputs
        found = model(dict(zip(names, given, strict=True)) if names else given[0], training=False)
        return tuple(found[key] for key in keys_of(model.how).values()) if model.how.goals else found

    return compute


def arrays_of(x: Any) -> list[Any]:
    """Return the arrays of a batch, one for each input."""
    return [x] if np.asarray(x).dtype.names is None else list(fields(x).values())
