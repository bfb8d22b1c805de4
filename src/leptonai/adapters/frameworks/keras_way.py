"""How a Keras model learns: what Keras's optimisers do themselves is switched on in them, on each of its back ends."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Unsupported
from leptonai.core.learning import Learning, Way, no_dropout

Array = NDArray[Any]
_SMOOTH = {"sparsecategoricalcrossentropy", "categoricalcrossentropy", "binarycrossentropy"}


def configured(given: Any, learning: Learning) -> Any:
    """Return the optimiser of a name or an object, not built yet, as `learning` asks for it."""
    optimizer = keras.optimizers.get(given)
    fixed = not isinstance(optimizer._learning_rate, keras.Variable)
    if fixed and (learning.schedule is not None or learning.learning_rate is not None):
        name = "schedule" if learning.schedule is not None else "learning_rate"
        raise Unsupported(
            f"{name}: the optimizer brings a schedule of its own: give it a plain learning rate",
            errors=[FieldError(f"learning.{name}", "an optimizer with a plain learning rate")],
        )
    if learning.rate is not None:
        optimizer.learning_rate = learning.rate
    if learning.clip_norm is not None or learning.clip_value is not None:
        optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue = (
            None,
            learning.clip_norm,
            learning.clip_value,
        )
    if learning.accumulate > 1:
        optimizer.gradient_accumulation_steps = learning.accumulate
    if learning.weight_decay is not None:
        optimizer.weight_decay = learning.weight_decay or None
    if learning.ema is not None:
        optimizer.use_ema, optimizer.ema_momentum = True, learning.ema
    return optimizer


class KerasWay:
    """What a compiled model is told between its steps, as a `Way` asks for. Made before its optimiser is built."""

    def __init__(self, way: Way, model: Any):
        self._learning, self._model = way.learning, model
        self._weights = None if way.class_weights is None else np.array(way.class_weights, np.float32)
        self._optimizer = model.optimizer
        if self._learning.weight_decay:  # of matrices, not of biases and scales
            self._optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if len(v.shape) < 2])
        if self._learning.schedule is not None:
            self._full = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))
        self._averaged = False
        if self._learning.dropout is not None:
            _drop(model, self._learning.dropout)

    def rate(self, share: float) -> None:
        """Set the learning rate to this share of the full one."""
        self._optimizer.learning_rate = self._full * share

    def row_weights(self, y: Array) -> Array | None:
        """Return the weight of each row: `y` are class numbers (rows,), or shares of classes (rows, classes)."""
        if self._weights is None:
            return None
        found: Array = self._weights[y] if y.ndim == 1 else (y @ self._weights).astype(np.float32)
        return found

    def averaged(self, wanted: bool) -> None:
        """Have the model hold the averages of its weights, or the weights that learn. Without averages: nothing."""
        if self._learning.ema is None or self._averaged == wanted:
            return
        if wanted and not int(keras.ops.convert_to_numpy(self._optimizer._iterations)):
            return  # there is no average yet
        for variable, average in self._pairs():
            now = np.array(keras.ops.convert_to_numpy(variable))
            variable.assign(average)
            average.assign(now)
        self._averaged = wanted

    def taken(self) -> None:
        """Note that the model was given other weights: they are the averages too."""
        if self._learning.ema is not None:
            self._averaged = False
            for variable, average in self._pairs():
                average.assign(variable)

    def restored(self) -> None:
        """Note that model and optimiser are as a checkpoint had them, which holds what learns."""
        self._averaged = False

    def _pairs(self) -> Sequence[tuple[Any, Any]]:
        found = zip(self._optimizer._trainable_variables, self._optimizer._model_variables_moving_average, strict=True)
        return [(variable, average) for variable, average in found if average is not None]


def _drop(model: Any, share: float) -> None:
    # Those of pictures are kinds of the first.
    kinds = (keras.layers.Dropout, keras.layers.AlphaDropout, keras.layers.GaussianDropout)
    # One that was made with 0 has nothing to draw from, and cannot be given it any more.
    found = [layer for layer in model._flatten_layers() if isinstance(layer, kinds) and layer.rate > 0]
    if not found:
        raise no_dropout("keras.layers.Dropout(0.1)")
    for layer in found:
        layer.rate = share


class Smoothed(keras.losses.Loss):  # type: ignore[misc]
    """A loss whose classes are not taken for quite sure while the model learns; as it is while it is measured.

    Metrics see the classes as they are. Szegedy et al. 2015, arXiv:1512.00567.
    """

    def __init__(self, given: Any, name: str, smoothing: float, *, from_logits: bool):
        if name not in _SMOOTH and name not in ("crossentropy", "ce"):
            raise Unsupported(
                f"label_smoothing: the loss {name!r} takes no shares of classes: use sparse_categorical_crossentropy, "
                "categorical_crossentropy or binary_crossentropy",
                errors=[FieldError("learning.label_smoothing", "a cross entropy")],
            )
        super().__init__(name="loss")
        self.learning = False
        self._given = keras.losses.get("sparse_categorical_crossentropy" if name in ("crossentropy", "ce") else given)
        self._sparse, self._logits, self._smoothing = (
            not name.startswith(("categorical", "binary")),
            from_logits,
            smoothing,
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """See Keras: the loss of each row."""
        if not self.learning:
            given = self._given
            return given.call(y_true, y_pred) if isinstance(given, keras.losses.Loss) else given(y_true, y_pred)
        classes = int(y_pred.shape[-1])
        y = y_true
        if self._sparse:
            y = keras.ops.one_hot(keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,)), classes)
        y = keras.ops.cast(y, y_pred.dtype) * (1 - self._smoothing) + self._smoothing / max(2, classes)
        if self._sparse:
            return keras.losses.categorical_crossentropy(y, y_pred, from_logits=self._logits)
        given = self._given
        return given.call(y, y_pred) if isinstance(given, keras.losses.Loss) else given(y, y_pred)
