"""Rows blended with others of their batch, labels too."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.training.augment.draws import Draws
from leptonai.training.augment.images import filled, rectangles
from leptonai.training.augment.spec import Cutmix, Mixup

Array = NDArray[Any]


def weights(step: Mixup, draws: Draws) -> Array:
    """Return how much of itself each row keeps (float32, at least a half): its own label stays the likelier one."""
    kept = draws.beta(step.alpha)
    return np.where(draws.chosen(step.p), np.maximum(kept, 1 - kept), np.float32(1))


def blend(values: Array, partners: Array, kept: Array) -> Array:
    """Return rows (rows, …) blended with their partners by weight."""
    share = kept.reshape(-1, *(1,) * (values.ndim - 1))
    blended: Array = values * share + values[partners] * (1 - share)
    return blended


def choose(values: Array, partners: Array, kept: Array, draws: Draws) -> Array:
    """Return for each row its own values or its partner's, drawn by weight: for what cannot be blended."""
    own = (draws.uniform() < kept).reshape(-1, *(1,) * (values.ndim - 1))
    return np.where(own, values, values[partners])


def cutmix(step: Cutmix, x: Array, draws: Draws, partners: Array) -> tuple[Array, Array]:
    """Return images (rows, height, width, channels) with a rectangle of their partner's, and how much of itself each kept."""
    side = np.sqrt(1 - draws.beta(step.alpha)) * draws.chosen(step.p)
    inside = filled(rectangles(draws, x.shape[1:3], side, side), x.shape[1:3])
    return np.where(inside[..., None], x[partners], x), 1 - inside.mean(axis=(1, 2), dtype=np.float32)


def labels(y: Array, classes: int, *, soft: bool, partners: Array, kept: Array, draws: Draws) -> Array:
    """Return the targets of blended rows: values blended; shares of classes (rows, classes) where the loss takes them, else classes."""
    if y.dtype.kind == "f":
        return blend(y, partners, kept).astype(np.float32)
    if not soft:
        return choose(y, partners, kept, draws)
    return blend(
        np.eye(classes + 1, classes, dtype=np.float32)[y], partners, kept
    )  # -1, for none: no share of any class
