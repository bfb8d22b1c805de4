"""Inputs of a Keras model changed, within a small distance, to where it errs most; and the slopes on each back end that lead there."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Unsupported
from leptonai.core.learning import Adversarial

Array = NDArray[Any]
Score = Callable[[Any, Any], Any]  # one number of two tensors: a batch of inputs, and what is known of its rows
Slopes = Callable[[Array, Array], Array]  # the gradient of a score with respect to the inputs


def attacked(
    x: Array,
    y: Array,
    rule: Adversarial,
    bounds: tuple[float, float] | None,
    slopes: Slopes,
    uniform: Callable[..., Array],
) -> Array:
    """Return the batch with its first rows changed; they come in another order in each epoch.

    `y`: what the slopes take, by row; `bounds`: what an input can be, None for any number; `uniform`: what draws the places, between
    two numbers in a shape, where the small steps begin.
    """
    many = max(1, round(rule.share * len(x)))
    clean, known = x[:many], y[:many]
    distance = x.dtype.type(rule.epsilon)
    changed, steps, size = clean, 1, rule.epsilon
    if rule.method == "pgd":
        steps, size = rule.steps, rule.step_size or 2.5 * rule.epsilon / rule.steps
        changed = clean + uniform(-rule.epsilon, rule.epsilon, clean.shape).astype(x.dtype)
    for _ in range(steps):
        changed = changed + x.dtype.type(size) * np.sign(slopes(changed, known))
        changed = np.clip(changed, clean - distance, clean + distance)
        changed = changed if bounds is None else np.clip(changed, *bounds)
    return np.concatenate([changed.astype(x.dtype), x[many:]])


def check(x: Array, word: str) -> None:
    """Raise `Unsupported` for inputs that cannot be changed by small parts; `word`: who asked to change them."""
    if x.dtype.kind != "f":
        raise Unsupported(
            f"{word} changes numbers by small parts, and the model begins with an embedding, which takes whole numbers",
            errors=[FieldError("learning.adversarial", "not with an embedding")],
        )


def slopes_of(score: Score, variables: Sequence[Any]) -> Slopes:
    """Return the gradients of a score with respect to its inputs, by the back end that Keras runs on, compiled where that compiles.

    `variables`: those that the score reads, which may have other values each time; what it would write is forgotten. Raises
    `Unsupported` where a score does not follow from the inputs by steps that have a gradient.
    """
    return {"torch": _on_torch, "tensorflow": _on_tensorflow, "jax": _on_jax}[keras.config.backend()](score, variables)


def _on_torch(score: Score, _: Sequence[Any]) -> Slopes:
    import torch

    def slopes(x: Array, y: Array) -> Array:
        given = keras.ops.convert_to_tensor(x).detach().clone().requires_grad_(True)
        with keras.StatelessScope():
            value = score(given, keras.ops.convert_to_tensor(y))
        found = torch.autograd.grad(value, given, allow_unused=True)[0] if value.requires_grad else None
        return np.asarray(_there(found).cpu().numpy())

    return slopes


def _on_tensorflow(score: Score, _: Sequence[Any]) -> Slopes:
    import tensorflow as tf

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def compiled(x: Any, y: Any) -> Any:
        with keras.StatelessScope(), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = score(x, y)
        return _there(tape.gradient(value, x))

    return lambda x, y: np.asarray(compiled(tf.convert_to_tensor(x), tf.convert_to_tensor(y)))


def _on_jax(score: Score, variables: Sequence[Any]) -> Slopes:
    import jax

    def with_values(x: Any, y: Any, values: Sequence[Any]) -> Any:
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return score(x, y)

    compiled = jax.jit(jax.grad(with_values))
    return lambda x, y: np.asarray(compiled(x, y, [variable.value for variable in variables]))


def _there(slope: Any) -> Any:
    if slope is None:
        raise Unsupported(
            "attacks go along gradients, and what this model gives has none with respect to what it is given: it rounds, or compares",
            errors=[FieldError("model", "a gradient with respect to the inputs")],
        )
    return slope
