"""What a user has called while a model learns: functions of (epoch, logs), or objects with hooks of Keras's names."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leptonai.core.errors import FieldError, Invalid, LeptonError
from leptonai.core.ports import Learner

HOOKS = ("on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end", "on_train_end")


def check(given: Sequence[object]) -> None:
    """Raise `Invalid` for what is neither a function nor an object with a hook."""
    for callback in given:
        if isinstance(callback, type):
            right = f"{callback.__name__}(…), an object of it"
            raise Invalid(f"callbacks: give {right}, not the class", errors=[FieldError("callbacks", right)])
        if not callable(callback) and not any(callable(getattr(callback, hook, None)) for hook in HOOKS):
            raise Invalid(
                f"callbacks: {type(callback).__name__} is neither a function of (epoch, logs) nor has it one of {', '.join(HOOKS)}",
                errors=[FieldError("callbacks", "functions, or objects with hooks")],
            )


class Callbacks:
    """The callbacks of one training. What one of them raises becomes `Invalid` that names it."""

    def __init__(self, given: Sequence[Any], learner: Learner, params: Mapping[str, Any]):
        self._given = list(given)
        self._model = learner.model
        self.stopped: str | None = None  # who wants the training to end
        for callback in self._given:
            self._guarded(callback, "set_params", _maybe, callback, "set_params", dict(params))
            self._guarded(callback, "set_model", _maybe, callback, "set_model", learner.model)

    def __bool__(self) -> bool:
        return bool(self._given)

    @property
    def each_batch(self) -> bool:
        """Whether one wants to hear of each batch."""
        return any(_own_hook(callback, "on_train_batch_end") for callback in self._given)

    def call(self, hook: str, *args: Any) -> None:
        """Call the hook of each that has it; a function is called at the end of each epoch."""
        for callback in self._given:
            found = getattr(callback, hook, None)
            if found is None and hook == "on_epoch_end" and callable(callback):
                found = callback
            if found is None:
                continue
            answer = self._guarded(callback, hook, found, *args)
            asked = getattr(self._model, "stop_training", False) is True
            if (isinstance(answer, str) and answer == "stop") or asked:
                self.stopped = self.stopped or _name(callback)

    def state(self) -> bytes:
        """Return what the callbacks remember: the `state_dict()` of each that has one, as JSON."""
        found = [self._guarded(c, "state_dict", _maybe, c, "state_dict") for c in self._given]
        try:
            return json.dumps(found).encode()
        except (TypeError, ValueError) as error:
            raise Invalid(f"callbacks: what state_dict gives must be JSON: {error}") from error

    def restore(self, data: bytes) -> None:
        """Give each callback what it remembered."""
        for callback, kept in zip(self._given, json.loads(data), strict=True):
            if kept is not None:
                self._guarded(callback, "load_state_dict", _maybe, callback, "load_state_dict", kept)

    def _guarded(self, callback: Any, hook: str, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(*args)
        except (LeptonError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            short = " ".join(str(error).split())[:500]
            raise Invalid(
                f"callback {_name(callback)} failed in {hook}: {type(error).__name__}: {short}",
                errors=[FieldError("callbacks", short)],
            ) from error


def _maybe(callback: Any, name: str, *args: Any) -> Any:
    found = getattr(callback, name, None)
    return None if found is None else found(*args)


def _own_hook(callback: Any, hook: str) -> bool:
    found = getattr(type(callback), hook, None)
    return found is not None and not str(getattr(found, "__module__", "")).startswith("keras.")


def _name(callback: Any) -> str:
    return str(getattr(callback, "__name__", None) or type(callback).__name__)
