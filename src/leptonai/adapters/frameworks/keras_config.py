"""Descriptions of the user's own Keras classes: complete, or refused.

Keras describes a class without `get_config` by the arguments it was made with; for models it forgets them, and it adds
arguments that a plain ``__init__(self)`` does not take. Here the arguments are what the object keeps under their names,
and the description is made into an object once, to see that it is the same.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from leptonai.adapters.frameworks.keras_parts import custom_objects
from leptonai.core.errors import FieldError, Invalid

_PLAIN = (str, int, float, bool, type(None))


def describe(model: Any, custom: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a model; add to `custom` what it names that is not Keras's own.

    Raises `Invalid` when another model would come of it.
    """
    try:
        with _arguments_kept(model):
            config: dict[str, Any] = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise _refusal(model, " ".join(str(error).split())[:200]) from error
    config.pop("compile_config", None)
    custom |= custom_objects(model, {}, (config,))
    if _own_classes(model):
        _check_same(model, config, custom)
    return config


def _own_classes(model: Any) -> set[Any]:
    """Return the classes of the user's own that have no `get_config`."""
    kinds = {type(part) for part in model._flatten_layers()}
    return {kind for kind in kinds if not _is_keras(kind) and getattr(kind.get_config, "_is_default", False)}


def _is_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"


@contextmanager
def _arguments_kept(model: Any) -> Iterator[None]:
    kinds = [kind for kind in _own_classes(model) if "get_config" not in vars(kind)]
    before = {kind: kind.get_config for kind in kinds}
    for kind in kinds:
        kind.get_config = _with_arguments(before[kind])
    try:
        yield
    finally:
        for kind in kinds:
            if "get_config" in vars(kind):
                del kind.get_config


def _with_arguments(base: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    def get_config(self: Any) -> dict[str, Any]:
        parameters = list(inspect.signature(type(self).__init__).parameters.values())[1:]
        more = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        known = {name: value for name, value in base(self).items() if more or name in named}
        # Of a model Keras notes the defaults, whatever it was made with.
        noted = None if isinstance(self, keras.Model) else getattr(self, "_auto_config", None)
        automatic = getattr(noted, "config", None) or {}
        for name, parameter in named.items():
            if name in known:
                continue
            if name in automatic:
                known[name] = automatic[name]
            elif hasattr(self, name) and _is_plain(getattr(self, name)):
                known[name] = getattr(self, name)
            elif parameter.default is parameter.empty:
                raise NotImplementedError(f"the argument {name!r} of {type(self).__name__} is not known any more")
        return known

    return get_config


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _check_same(model: Any, config: dict[str, Any], custom: Mapping[str, Any]) -> None:
    try:
        with keras.saving.custom_object_scope(dict(custom)):
            again = keras.saving.deserialize_keras_object(config, safe_mode=False)
    except Exception as error:  # the user's own constructors may raise anything
        raise _refusal(model, " ".join(str(error).split())[:200]) from error
    ours, theirs = _parts(model), _parts(again)
    if ours != theirs:
        apart = next((a for a, b in zip(ours, theirs, strict=False) if a != b), None)
        raise _refusal(model, f"{apart[0]} would be another one" if apart else "it would have other layers")


def _parts(model: Any) -> list[tuple[str, Any]]:
    """Return every layer with its configuration, without the names that Keras counts up."""
    with _arguments_kept(model):
        return [
            (type(part).__name__, _nameless(part.get_config())) for part in model._flatten_layers(include_self=False)
        ]


def _nameless(config: Any) -> Any:
    if isinstance(config, dict):
        return {
            key: _nameless(value)
            for key, value in config.items()
            if key not in ("name", "build_config", "shared_object_id")
        }
    if isinstance(config, (list, tuple)):
        return [_nameless(part) for part in config]
    return config


def _refusal(model: Any, why: str) -> Invalid:
    return Invalid(
        f"{type(model).__name__} cannot be written down, so that it can be made again in a Run: give its class, and the "
        f"classes of its layers, a get_config method ({why})",
        errors=[FieldError("model", "needs get_config")],
    )
