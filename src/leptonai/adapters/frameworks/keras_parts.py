"""What `compile` was given for a Keras model, and the user's own classes and functions, on their way to a Run."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.utils import module_utils

from leptonai.adapters.frameworks.packing import unknown
from leptonai.core.errors import FieldError, Invalid

_AUTO = ("accuracy", "acc", "crossentropy", "ce")  # Keras picks by the shapes
_SHORT = ("mse", "mae", "mape", "msle", "bce", "cce", "kld")  # names that Keras knows and does not list
_OPTIONS = ("optimizer", "loss", "metrics")  # of several targets loss and metrics by name, or in their order


@contextmanager
def no_needless_import() -> Iterator[None]:
    """Keep Keras from importing TensorFlow (seconds) to see whether what it writes or reads down is one of its types.

    On another back end, where nobody has imported TensorFlow, it cannot be.
    """
    seen = getattr(module_utils.tensorflow, "_available", True)
    if seen is not None or keras.config.backend() == "tensorflow" or "tensorflow" in sys.modules:
        yield
        return
    module_utils.tensorflow._available = False
    try:
        yield
    finally:
        module_utils.tensorflow._available = None


def compiled_with(model: Any, compiled: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to compile with, as objects: what leptonai was given, else what the Keras model was. Raises `Invalid`."""
    for name in compiled:
        if name not in _OPTIONS:
            raise Invalid(f"compile: {name!r} is not known", errors=[FieldError(name, f"one of {', '.join(_OPTIONS)}")])
    own = getattr(model, "_compile_config", None)
    found = dict(own.config) if model.compiled and own is not None else {}
    if not found and not compiled:
        raise Invalid(
            "the model is not compiled: call compile(optimizer=…, loss=…) first",
            errors=[FieldError("compile", "an optimizer and a loss")],
        )
    found.update({name: value for name, value in compiled.items() if value is not None})
    _check(found)
    return {name: value for name, value in found.items() if value is not None}


def _check(found: Mapping[str, Any]) -> None:
    if isinstance(name := found.get("optimizer"), str):
        _known("optimizer", name, keras.optimizers, (keras.optimizers.Optimizer,), ())
    for name in _strings(found.get("loss")):
        _known("loss", name, keras.losses, (keras.losses.Loss,), _AUTO[2:])
    for name in _strings(found.get("metrics")):
        _known("metric", name, keras.metrics, (keras.metrics.Metric,), _AUTO)


def _known(kind: str, name: str, module: Any, bases: tuple[type, ...], more: Iterable[str]) -> None:
    try:
        if name.lower() not in more and module.get(name) is None:
            raise ValueError(name)
    except (ValueError, TypeError) as error:
        names = [
            word.lower() if kind == "optimizer" else word
            for word in dir(module)
            if inspect.isfunction(made := getattr(module, word)) or (inspect.isclass(made) and issubclass(made, bases))
        ]
        short = [word for word in _SHORT if kind != "optimizer" and _gives(module, word)]
        hidden = {
            "get",
            "serialize",
            "deserialize",
            "optimizer",
            "loss",
            "metric",
            "Loss",
            "Metric",
            "lossscaleoptimizer",
        }
        raise unknown(kind, name, [*(word for word in names if word not in hidden), *short, *more]) from error


def _gives(module: Any, word: str) -> bool:
    try:
        return module.get(word) is not None
    except (ValueError, TypeError):
        return False


def _strings(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, (list, tuple, Mapping)):
        for part in given.values() if isinstance(given, Mapping) else given:
            yield from _strings(part)


def described(value: Any) -> Any:
    """Describe Keras's own objects by their configuration (they hold variables); leave the rest as it is."""
    if isinstance(value, (keras.optimizers.Optimizer, keras.losses.Loss, keras.metrics.Metric)):
        return {"__keras__": keras.saving.serialize_keras_object(value)}
    if isinstance(value, dict):
        return {name: described(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(part) for part in value]
    return value


def made(value: Any) -> Any:
    """Make again what `described` described."""
    if isinstance(value, dict):
        if "__keras__" in value:
            return keras.saving.deserialize_keras_object(value["__keras__"], safe_mode=False)
        return {name: made(part) for name, part in value.items()}
    return [made(part) for part in value] if isinstance(value, list) else value


def custom_objects(model: Any, options: Mapping[str, Any], descriptions: Iterable[Any]) -> dict[str, Any]:
    """Return the classes and functions that are not Keras's own, by every name that a description may call them."""
    found: dict[str, Any] = {}
    for part in (*model._flatten_layers(), *_objects(options)):
        _note(found, type(part))
    for description in descriptions:
        for module, name in _named(description):
            _note(found, getattr(sys.modules.get(module), name, None))
    return found


def _objects(value: Any) -> Iterator[Any]:
    """Yield the objects of Keras's kinds in what a model is compiled with; classes made inside a function have no module."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _objects(part)
    elif isinstance(value, (keras.optimizers.Optimizer, keras.losses.Loss, keras.metrics.Metric)):
        yield value


def _note(found: dict[str, Any], made: Any) -> None:
    name = getattr(made, "__name__", None)
    if made is None or name is None or str(made.__module__).partition(".")[0] == "keras":
        return
    found[name] = made
    found[keras.saving.get_registered_name(made)] = made


def _named(description: Any) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every class and function in a description."""
    if isinstance(description, dict):
        module, name = description.get("module"), description.get("class_name")
        if name == "function":
            name = description.get("config")
        if isinstance(module, str) and isinstance(name, str):
            yield module, name
        for part in description.values():
            yield from _named(part)
    elif isinstance(description, (list, tuple)):
        for part in description:
            yield from _named(part)
