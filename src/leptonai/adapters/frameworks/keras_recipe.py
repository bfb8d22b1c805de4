"""How a Keras model is made again and again, each time with other settings of its optimiser."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras

from leptonai.adapters.frameworks import packing
from leptonai.adapters.frameworks.keras_learner import KerasLearner
from leptonai.adapters.frameworks.keras_parts import described, made
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Learner


class KerasRecipe:
    """See `core.ports.Recipe`: ``optimizer`` by name, and what the optimiser is configured by, such as ``learning_rate``."""

    def __init__(self, code: bytes):
        self._parts = packing.unpack(code)

    def knows(self, name: str) -> bool:
        """See the port."""
        return name == "optimizer" or name in self._given().get_config()

    def check(self, names: Iterable[str]) -> None:
        """See the port. Where optimisers are chosen from, which of them takes what is seen when it is made."""
        wanted = list(names)
        known = [name for name in self._given().get_config() if name != "name"]
        for name in wanted:
            if "optimizer" not in wanted and name not in known:
                raise packing.unknown(f"setting of {type(self._given()).__name__}", name, ["optimizer", *known])

    def learner(self, settings: Mapping[str, Any]) -> Learner:
        """See the port."""
        return KerasLearner(self._varied(settings))

    def pack(self, settings: Mapping[str, Any]) -> bytes:
        """See the port."""
        return packing.by_value(self._varied(settings), "the model")

    def _given(self, name: object = None) -> Any:
        return keras.optimizers.get(name or made(self._parts["compile"].get("optimizer")) or "rmsprop")

    def _varied(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        if not settings:
            return dict(self._parts)
        optimizer = self._given(settings.get("optimizer"))
        config = optimizer.get_config()
        for name, value in settings.items():
            if name == "optimizer":
                continue
            if name not in config:
                raise Invalid(
                    f"{type(optimizer).__name__} has no {name!r}; it has {', '.join(config)}",
                    errors=[FieldError(f"space.{name}", f"one of {', '.join(config)}")],
                )
            config[name] = value
        varied = described(type(optimizer).from_config(config))
        return {**self._parts, "compile": {**self._parts["compile"], "optimizer": varied}}
