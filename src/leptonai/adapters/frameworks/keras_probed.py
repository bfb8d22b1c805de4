"""What gradients tell of a Keras model that has learnt, on each of its back ends: where it looks, and what an aimed change does."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from leptonai.adapters.frameworks import keras_attack
from leptonai.adapters.frameworks.keras_attack import Score, Slopes, slopes_of
from leptonai.core.learning import Adversarial

Array = NDArray[Any]
_STEPS = 32  # of the integral
_SURE = 1e-6


class KerasProbed(ABC):
    """The part of a learner that is asked after it has learnt; `attribution` is told of pictures."""

    model: Any
    _slopes: dict[str, Slopes]  # of the loss by activation

    def attribution(self, x: Array, of: Sequence[int] | None) -> Any:
        """Return a map for each picture, float64 (pictures, height, width), by the method that made it.

        `x`: (pictures, height, width, channels), of which 0 is what nothing looks like; None for anything else. `of`: the class that is
        explained, None: the value. Integrated gradients (Sundararajan, Taly & Yan, ICML 2017) of every model; Grad-CAM (Selvaraju et
        al., ICCV 2017) of the last convolution, where nothing goes round it.
        """
        self._look()
        if np.ndim(x) != 4 or x.dtype.kind != "f":
            return None
        known = np.resize(np.asarray([0] if of is None else of, np.int32), len(x))
        slopes = slopes_of(_said(self.model, whole=of is None), self.model.variables)
        # Places of Gauss and Legendre: a smooth path is added up almost exactly in a few steps.
        places, weights = np.polynomial.legendre.leggauss(_STEPS)
        slope = sum(
            weight / 2 * slopes(x * np.float32((place + 1) / 2), known)
            for place, weight in zip(places, weights, strict=True)
        )
        found = {"integrated gradients": (slope * x).sum(-1, dtype=np.float64)}
        if (cut := _cut(self.model)) is not None:
            seen = ops.convert_to_numpy(cut[0](ops.convert_to_tensor(x), training=False))
            rest = slopes_of(_said(cut[1], whole=of is None), cut[1].variables)
            worth = rest(seen, known).mean((1, 2), keepdims=True)
            small = (worth * seen).sum(-1, keepdims=True)
            large = ops.image.resize(
                ops.convert_to_tensor(small), x.shape[1:3], "bilinear", data_format="channels_last"
            )
            found["Grad-CAM"] = ops.convert_to_numpy(large)[..., 0].astype(np.float64)
        return found

    def under_attack(
        self, x: Array, y: Array, rule: Adversarial, bounds: tuple[float, float] | None, activation: str
    ) -> Array:
        """Return `x` changed within the rule's distance to where the model errs most. Raises `Unsupported`.

        `y`: class numbers, or values; `activation`: what makes probabilities of the outputs, see `core.ports.Learner`.
        """
        self._look()
        keras_attack.check(x, "an attack")
        if activation not in self._slopes:
            self._slopes[activation] = slopes_of(
                lambda given, truth: _loss(self.model(given, training=False), truth, activation), self.model.variables
            )
        begins = np.random.default_rng(0).uniform
        return keras_attack.attacked(x, np.asarray(y), rule, bounds, self._slopes[activation], begins)

    @abstractmethod
    def _look(self) -> None: ...


def _said(model: Any, *, whole: bool) -> Score:
    """Return the sum, over the rows, of the output of each row's class, or of its `whole` output. One output speaks for the second of two."""

    def score(x: Any, of: Any) -> Any:
        output = ops.reshape(model(x, training=False), (x.shape[0], -1))
        if whole:
            return ops.sum(output)
        if output.shape[1] == 1:
            return ops.sum(output[:, 0] * (2 * ops.cast(of, output.dtype) - 1))
        return ops.sum(output * ops.one_hot(of, int(output.shape[1]), dtype=output.dtype))

    return score


def _loss(output: Any, truth: Any, activation: str) -> Any:
    flat = ops.reshape(output, (output.shape[0], -1))
    wanted = ops.cast(ops.reshape(truth, (output.shape[0], -1)), flat.dtype)
    if activation == "value":
        return ops.mean(ops.square(flat - ops.broadcast_to(wanted, flat.shape)))
    if activation == "softmax":
        return ops.mean(ops.sparse_categorical_crossentropy(ops.cast(truth, "int32"), flat, from_logits=True))
    chances = ops.clip(flat if activation == "none" else ops.sigmoid(flat), _SURE, 1 - _SURE)
    if flat.shape[1] == 1:
        return ops.mean(ops.binary_crossentropy(wanted, chances))
    own = ops.one_hot(ops.cast(truth, "int32"), int(flat.shape[1]), dtype=flat.dtype)
    return -ops.mean(ops.log(ops.sum(chances * own, axis=1)))


def _cut(model: Any) -> tuple[Any, Any] | None:
    """Return the model up to its last convolution, and from there on; None where it cannot be cut there."""
    graph = getattr(model, "_functional", None) or model  # of a sequential one, what it was made into
    depths = getattr(graph, "_nodes_by_depth", {})  # 0 is the output
    order = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
    nodes = [node for node in order if isinstance(node.operation, keras.layers.Conv2D)]
    last = [node for node in nodes if node.operation is nodes[-1].operation]
    if len(last) != 1 or last[0].operation.data_format != "channels_last":
        return None
    seen = last[0].outputs[0]
    try:
        return keras.Model(graph.inputs, seen), keras.Model(seen, graph.outputs[0])
    except ValueError:  # something goes round it
        return None
