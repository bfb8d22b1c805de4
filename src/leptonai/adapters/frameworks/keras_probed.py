"""What gradients tell of a Keras model that has learnt, on each of its back ends: where it looks, and what an aimed change does."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Unsupported
from leptonai.core.learning import Adversarial

Array = NDArray[Any]
Score = Callable[[Any], Any]  # one number of a tensor of inputs
_STEPS = 32  # of the integral
_SURE = 1e-6


class KerasProbed(ABC):
    """The part of a learner that is asked after it has learnt; `attribution` is told of pictures."""

    model: Any

    def attribution(self, x: Array, of: Sequence[int] | None) -> Any:
        """Return a map for each picture, float64 (pictures, height, width), by the method that made it.

        `x`: (pictures, height, width, channels), of which 0 is what nothing looks like; None for anything else. `of`: the class that is
        explained, None: the value. Integrated gradients (Sundararajan, Taly & Yan, ICML 2017) of every model; Grad-CAM (Selvaraju et
        al., ICCV 2017) of the last convolution, where nothing goes round it.
        """
        self._look()
        if np.ndim(x) != 4 or x.dtype.kind != "f":
            return None
        # Places of Gauss and Legendre: a smooth path is added up almost exactly in a few steps.
        places, weights = np.polynomial.legendre.leggauss(_STEPS)
        slope = sum(
            weight / 2 * slope_of(_said(self.model, of), x * np.float32((place + 1) / 2))
            for place, weight in zip(places, weights, strict=True)
        )
        found = {"integrated gradients": (slope * x).sum(-1, dtype=np.float64)}
        if (cut := _cut(self.model)) is not None:
            seen = ops.convert_to_numpy(cut[0](ops.convert_to_tensor(x), training=False))
            worth = slope_of(_said(cut[1], of), seen).mean((1, 2), keepdims=True)
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
        if x.dtype.kind != "f":
            raise Unsupported(
                "attacks change numbers by small parts, and the model begins with an embedding, which takes whole numbers",
                errors=[FieldError("robustness", "not with an embedding")],
            )
        steps, size, changed = 1, rule.epsilon, x
        if rule.method == "pgd":
            steps, size = rule.steps, rule.step_size or 2.5 * rule.epsilon / rule.steps
            changed = x + np.random.default_rng(0).uniform(-rule.epsilon, rule.epsilon, x.shape).astype(x.dtype)
        truth = np.asarray(y)

        def loss(given: Any) -> Any:
            return _loss(self.model(given, training=False), truth, activation)

        for _ in range(steps):
            changed = changed + np.asarray(size * np.sign(slope_of(loss, changed)), x.dtype)
            changed = np.clip(changed, x - x.dtype.type(rule.epsilon), x + x.dtype.type(rule.epsilon))
            changed = changed if bounds is None else np.clip(changed, *bounds)
        return np.asarray(changed, x.dtype)

    @abstractmethod
    def _look(self) -> None: ...


def slope_of(score: Score, x: Array) -> Array:
    """Return the gradient of a score with respect to its inputs, by the back end that Keras runs on."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        given = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = score(given)
        return np.asarray(tape.gradient(value, given))
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(score)(jax.numpy.asarray(x)))
    import torch

    given = ops.convert_to_tensor(x).detach().clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(score(given), given)
    return np.asarray(slope.cpu().numpy())


def _said(model: Any, of: Sequence[int] | None) -> Score:
    """Return the sum, over the rows, of the output of each row's class. One output speaks for the second of two."""

    def score(x: Any) -> Any:
        output = ops.reshape(model(x, training=False), (x.shape[0], -1))
        if of is None:
            return ops.sum(output)
        known = np.resize(np.asarray(of, np.int64), len(output))
        if output.shape[1] == 1:
            return ops.sum(output[:, 0] * ops.convert_to_tensor((2 * known - 1).astype(np.float32)))
        return ops.sum(output * ops.convert_to_tensor(np.eye(output.shape[1], dtype=np.float32)[known]))

    return score


def _loss(output: Any, truth: Array, activation: str) -> Any:
    flat = ops.reshape(output, (len(truth), -1))
    if activation == "value":
        wanted = np.broadcast_to(truth.reshape(len(truth), -1).astype(np.float32), flat.shape)
        return ops.mean(ops.square(flat - ops.convert_to_tensor(np.ascontiguousarray(wanted))))
    if activation == "softmax":
        return ops.mean(ops.sparse_categorical_crossentropy(_numbers(truth), flat, from_logits=True))
    chances = ops.clip(flat if activation == "none" else ops.sigmoid(flat), _SURE, 1 - _SURE)
    if flat.shape[1] == 1:
        wanted = ops.convert_to_tensor(truth.reshape(-1, 1).astype(np.float32))
        return ops.mean(ops.binary_crossentropy(wanted, chances))
    own = ops.convert_to_tensor(np.eye(int(flat.shape[1]), dtype=np.float32)[truth])
    return -ops.mean(ops.log(ops.sum(chances * own, axis=1)))


def _numbers(truth: Array) -> Any:
    return ops.convert_to_tensor(truth.astype(np.int32))


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
