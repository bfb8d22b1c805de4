"""``leptonai.augment``: how training rows are changed on their way to a model; give a list of these to `Model.fit`."""

from collections.abc import Mapping, Sequence
from typing import Any

from leptonai.training.augment.spec import (
    Blur,
    Colour,
    Crop,
    Cutmix,
    Cutout,
    DropWords,
    Flip,
    Gain,
    Mixup,
    Noise,
    Rotate,
    Shift,
    Smote,
    SpecAugment,
    SwapWords,
    Synonyms,
)

__all__ = [
    "Blur",
    "Colour",
    "Crop",
    "Cutmix",
    "Cutout",
    "DropWords",
    "Flip",
    "Gain",
    "Mixup",
    "Noise",
    "Rotate",
    "Shift",
    "Smote",
    "SpecAugment",
    "SwapWords",
    "Synonyms",
    "change",
]


def change(
    batch: Mapping[str, Any], steps: Sequence[Any], *, seed: int = 0, epoch: int = 0, start: int = 0
) -> dict[str, Any]:
    """Return a batch of columns (arrays by name) changed, for a training loop of your own: images, signals and texts.

    The same seed, epoch and `start` (the place of its first row in the epoch) give the same changes.
    """
    from leptonai.training.augment.columns import change_columns

    return change_columns(batch, steps, seed=seed, epoch=epoch, start=start)
