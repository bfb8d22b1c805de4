"""What a loss of Keras wants of a target, and what it makes of a model's output."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from leptonai.adapters.frameworks.shapes import outputs


class Aim(NamedTuple):
    """One target of a model, once an output for it is there."""

    task: str
    output: tuple[int, ...]  # the shape of a batch of outputs
    kind: str  # what the loss wants: "sparse" class numbers, one-hot "probabilities", or "custom"
    activation: str  # see `Learner.activation`

    @classmethod
    def of(cls, loss: Any, output: Sequence[int], task: str) -> "Aim":
        """Tell from the loss, as the user gave it, and the shape of the outputs."""
        activation = activation_of(loss, several=outputs(output) > 1) if task == "classification" else "value"
        return cls(task, tuple(output), kind_of(loss), activation)

    @property
    def one_hot(self) -> bool:
        """Whether the loss takes shares of classes in place of class numbers."""
        return self.task == "classification" and outputs(self.output) > 1 and self.kind == "probabilities"

    def target(self, y: Any) -> Any:
        """Return class numbers, or values, as the loss takes them."""
        if self.task == "classification":
            if y.dtype.kind == "f" and y.ndim == 2:  # shares of classes
                return y
            if self.one_hot:
                return np.eye(outputs(self.output), dtype=np.float32)[y]
            if outputs(self.output) > 1:
                return y
            y = y.astype(np.float32)
        return y[:, None] if y.ndim == 1 and len(self.output) > 1 else y


def name_of(loss: Any) -> str:
    """Return the name of a loss without signs, in small letters."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.lower().replace("_", "")


def kind_of(loss: Any) -> str:
    """Return what a loss wants of the target of several classes: "sparse" numbers, one-hot "probabilities", or "custom"."""
    name = name_of(loss)
    if name.startswith("sparse") or name in ("crossentropy", "ce"):
        return "sparse"
    own = (
        isinstance(loss, str)
        or str(getattr(loss, "__module__", "")).startswith("keras")
        or type(loss).__module__.startswith("keras")
    )
    return "probabilities" if own else "custom"


def activation_of(loss: Any, *, several: bool) -> str:
    """Return what turns outputs into probabilities; `several`: whether there are several a row."""
    if not getattr(loss, "from_logits", False):
        config = loss.get_config() if isinstance(loss, keras.losses.Loss) and hasattr(loss, "get_config") else {}
        if not config.get("from_logits", False):
            return "none"
    return "softmax" if several and "binary" not in name_of(loss) else "sigmoid"
