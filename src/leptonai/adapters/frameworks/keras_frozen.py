"""The layers of a Keras model that do not learn, at first or for good: `trainable`, set at the start of an epoch."""

import math
from fnmatch import fnmatchcase
from typing import Any

import keras

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.learning import ALL_BUT_HEAD, Learning


def layers(model: Any) -> list[Any]:
    """Return the layers that have weights of their own, in the order of the model; the last one is the head."""
    inner = model._flatten_layers(include_self=False)
    return [layer for layer in inner if layer.weights and not list(layer._flatten_layers(include_self=False))]


class KerasFrozen:
    """What is frozen follows from the epoch alone, so it needs no state."""

    def __init__(self, model: Any, learning: Learning):
        if learning.unfreeze_after is not None and keras.config.backend() == "jax":
            raise Unsupported(
                "unfreeze_after: Keras on JAX cannot change what learns: leave it out",
                errors=[FieldError("learning.unfreeze_after", "not on JAX")],
            )
        self._model, self._learning = model, learning
        self._known = layers(model)
        self._layers = _wanted(learning.freeze, self._known)
        self._now = self._said = 0

    def at(self, epoch: int) -> None:
        """Freeze what is to be frozen in an epoch, from 0, and let the rest learn."""
        many = len(self._layers)
        after, each = self._learning.unfreeze_after, self._learning.unfreeze_layers
        if after is not None and epoch >= after:
            many = 0 if each is None else max(0, many - (epoch - after + 1) * each)
        if many == self._now:
            return
        self._now = many
        for place, layer in enumerate(self._layers):
            layer.trainable = place >= many
        self._model.train_function = None  # it was made for the variables that learnt before

    def news(self) -> str | None:
        """Return a line that says what is frozen, where that was not said yet."""
        if self._now == self._said:
            return None
        self._said = self._now
        learning = sum(math.prod(variable.shape) for variable in self._model.trainable_variables)
        return f"{self._now} of {len(self._known)} layers are frozen: {learning:,} numbers learn"


def _wanted(asked: tuple[str, ...], known: list[Any]) -> list[Any]:
    if ALL_BUT_HEAD in asked:
        return known[:-1]
    for pattern in asked:
        if not any(_fits(layer, pattern) for layer in known):
            shown = ", ".join(layer.name for layer in known[:20])
            raise Invalid(
                f"freeze: there is no layer {pattern!r}; the model has {shown}",
                errors=[FieldError("learning.freeze", f"'{ALL_BUT_HEAD}', or layers of the model")],
            )
    found = [layer for layer in known if any(_fits(layer, pattern) for pattern in asked)]
    if len(found) == len(known):
        raise Invalid(
            "freeze: every layer is frozen, and nothing is left to learn: leave the last one out",
            errors=[FieldError("learning.freeze", "leave a layer out")],
        )
    return found


def _fits(layer: Any, pattern: str) -> bool:
    steps = layer.path.split("/")
    return fnmatchcase(layer.name, pattern) or any(fnmatchcase("/".join(steps[i:]), pattern) for i in range(len(steps)))
