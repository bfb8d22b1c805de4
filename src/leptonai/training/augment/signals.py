"""Changes of whole batches of signals and other tensors: float32 (rows, time, …). Each returns the batch to go on with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.training.augment.draws import Draws
from leptonai.training.augment.spec import Gain, Noise, Shift, SpecAugment

Array = NDArray[Any]


def gain(step: Gain, x: Array, draws: Draws) -> Array:
    """See `spec.Gain`."""
    decibels = draws.uniform(-step.decibels, step.decibels) * draws.chosen(step.p)
    x *= _along(np.power(np.float32(10), decibels / np.float32(20), dtype=np.float32), x)
    return x


def shift(step: Shift, x: Array, draws: Draws) -> Array:
    """See `spec.Shift`."""
    length = x.shape[1]
    later = np.rint(draws.uniform(-step.by, step.by) * length).astype(np.int64) * draws.chosen(step.p)
    places = np.arange(length) - later[:, None]
    moved: Array = x[np.arange(len(x))[:, None], places.clip(0, length - 1)]
    if step.fill == "zero":
        moved[(places < 0) | (places >= length)] = 0
    return moved


def noise(step: Noise, x: Array, draws: Draws) -> Array:
    """See `spec.Noise`."""
    loud = x.reshape(len(x), -1).std(axis=1) * np.float32(step.std) * draws.chosen(step.p)
    x += draws.normal(x.shape[1:]) * _along(loud, x)
    return x


def specaugment(step: SpecAugment, x: Array, draws: Draws) -> Array:
    """See `spec.SpecAugment`; what is blanked becomes the row's mean."""
    chosen = draws.chosen(step.p)
    mean = _along(x.reshape(len(x), -1).mean(axis=1), x)
    for axis, most in ((1, step.time), (2, step.frequency)):
        if axis >= x.ndim:
            continue
        length = x.shape[axis]
        for _ in range(step.masks):
            size = np.rint(draws.uniform(0, most) * length * chosen).astype(np.int64)
            first = np.floor(draws.uniform() * (length - size + 1)).astype(np.int64)
            places = np.arange(length)
            inside = (places >= first[:, None]) & (places < (first + size)[:, None])
            shape = [len(x), *([1] * (x.ndim - 1))]
            shape[axis] = length
            x = np.where(inside.reshape(shape), mean, x)
    return x


def _along(values: Array, x: Array) -> Array:
    return values.astype(np.float32).reshape(-1, *(1,) * (x.ndim - 1))
