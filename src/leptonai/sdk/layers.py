"""``leptonai.layers``: the layers of Keras, by the same names, loaded when the first one is used."""

from typing import Any

from leptonai.core.errors import MissingExtra

_BACKENDS = ("torch", "tensorflow", "jax")


def _keras() -> Any:
    try:
        import keras
    except ImportError as error:
        way = "install it with  pip install 'lepton-ai-sdk[torch]'  (or [tensorflow], [jax])"
        if error.name in _BACKENDS:
            way = f"install it, or set KERAS_BACKEND to a back end that is installed ({', '.join(_BACKENDS)})"
        raise MissingExtra(f"leptonai.layers needs {error.name or 'keras'}: {way}") from error
    return keras.layers


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # what the import system and inspectors ask of every module
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(_keras(), name)
    except AttributeError:
        raise AttributeError(f"there is no layer {name!r} in keras.layers") from None


def __dir__() -> list[str]:
    return [name for name in dir(_keras()) if not name.startswith("_")]
