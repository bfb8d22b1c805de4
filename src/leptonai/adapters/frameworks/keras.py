"""Keras 3 on whichever back end the user has, behind the port `Framework`. TensorFlow's ``tf.keras`` is Keras 3 too."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from leptonai.adapters.frameworks import packing
from leptonai.core.errors import Unavailable
from leptonai.core.learning import ALL
from leptonai.core.ports import Learner, Packed, Recipe, Route


class KerasFramework:
    """Models of Keras: sequential, functional and subclassed; built or not, compiled here or by Keras."""

    name = "keras"
    learns = ALL - {
        "device",
        "precision",
        "layer_decay",
        "lora",
        "mitigate",
    }  # the back end has device and precision
    starts = True  # from weights of elsewhere
    several = True  # inputs, and targets
    apart = (("ema", "unfreeze_after"),)  # Keras averages only what learns from the start

    def owns(self, model: object) -> bool:
        """Whether it is a ``keras.Model``."""
        keras = sys.modules.get("keras")
        return keras is not None and hasattr(keras, "Model") and isinstance(model, keras.Model)

    def pack(self, model: Any, compiled: Mapping[str, Any]) -> Packed:
        """See the port. The model's description travels with its weights, if it has any, and the user's own code."""
        import keras

        from leptonai.adapters.frameworks.keras_config import describe
        from leptonai.adapters.frameworks.keras_fed import inputs_of
        from leptonai.adapters.frameworks.keras_parts import (
            compiled_with,
            custom_objects,
            described,
            no_needless_import,
        )

        with no_needless_import():
            given = compiled_with(model, compiled)
            options = {name: described(value) for name, value in given.items()}
            custom = custom_objects(model, given, (options,))
            config = describe(model, custom)
        weights = [keras.ops.convert_to_numpy(v) for v in model.weights] if model.built else []
        parts = {
            "backend": keras.config.backend(),
            "config": config,
            "custom": custom,
            "weights": weights,
            "compile": options,
        }
        facts = {
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
            "backend": parts["backend"],
            "parameters": int(sum(w.size for w in weights)),
            **({"inputs": inputs} if (inputs := inputs_of(model)) else {}),
        }
        return Packed(packing.by_value(parts, "the model"), parts["backend"], facts)

    def load(self, code: bytes, weights: bytes | None = None) -> Learner:
        """See the port. Raises `Unavailable` when this process runs Keras on another back end."""
        import keras

        from leptonai.adapters.frameworks.keras_learner import KerasLearner

        parts = packing.unpack(code)
        if keras.config.backend() != parts["backend"]:
            raise Unavailable(
                f"the model is one of Keras on {parts['backend']}, and Keras runs on {keras.config.backend()} here: "
                f"set KERAS_BACKEND={parts['backend']}"
            )
        learner = KerasLearner(parts)
        if weights is not None:
            learner.load_weights(weights)
        return learner

    def recipe(self, code: bytes) -> Recipe:
        """See `core.ports.Recipe`."""
        from leptonai.adapters.frameworks.keras_recipe import KerasRecipe

        return KerasRecipe(code)

    def absorb(self, model: Any, weights: bytes) -> None:
        """See the port. A model that is not built yet is built."""
        from leptonai.adapters.frameworks.keras_learner import load_into

        load_into(model, weights)

    def export(self, learner: Learner, example: Any) -> Iterator[Route]:
        """See the port."""
        from leptonai.adapters.frameworks.keras_onnx import routes

        return routes(learner, example)
