"""Batches of columns changed outside a training: images, signals and texts as a `Reader` or a loader of one's own gives them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import FeatureType
from leptonai.training.augment import words
from leptonai.training.augment.apply import IMAGE, SIGNAL
from leptonai.training.augment.draws import Draws
from leptonai.training.augment.spec import FITS, DropWords, SwapWords, Synonyms

Array = NDArray[Any]
_WORDS = (DropWords, SwapWords, Synonyms)


def change_columns(
    batch: Mapping[str, Any], steps: Sequence[Any], *, seed: int, epoch: int, start: int
) -> dict[str, Any]:
    """Return a batch with its columns changed; labels, and what no step fits, stay as they are.

    uint8 (rows, height, width, channels) is an image, float32 (rows, time, …) a signal, an array of objects text. `start` is the
    place of the first row in the epoch. Raises `Invalid` for a step that blends rows, changes numbers, or fits no column.
    """
    found = {name: np.asarray(values) for name, values in batch.items()}
    rows = len(next(iter(found.values()), ()))
    draws = Draws(seed, epoch, start, rows)
    for number, step in enumerate(steps):
        draws.step(number)
        fits = [name for name, values in found.items() if _kind(values) in FITS[step.op] and _wants(step, name)]
        if not hasattr(step, "columns") or not fits:
            right = "steps that change images, signals or texts by themselves"
            raise Invalid(
                f"augment: {step.op} fits none of the columns: use {right}", errors=[FieldError(step.op, right)]
            )
        for name in fits:
            found[name] = _changed(step, found[name], draws)
    return found


def _wants(step: Any, name: str) -> bool:
    columns = getattr(step, "columns", None)
    return columns is None or name in columns


def _kind(values: Array) -> FeatureType | None:
    if values.dtype == np.uint8 and values.ndim == 4:
        return FeatureType.IMAGE
    if values.dtype.kind == "f" and values.ndim > 1:
        return FeatureType.TENSOR
    return FeatureType.TEXT if values.dtype == object else None


def _changed(step: Any, values: Array, draws: Draws) -> Array:
    if isinstance(step, _WORDS):
        return words.change(step, values, draws)
    if values.dtype != np.uint8:
        changed: Array = SIGNAL[step.op](step, values.astype(np.float32), draws)
        return changed
    light = np.divide(values, np.float32(255), dtype=np.float32)
    return np.rint(IMAGE[step.op](step, light, draws) * np.float32(255)).astype(np.uint8)
