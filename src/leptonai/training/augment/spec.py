"""How rows are changed while a model learns from them: one small spec for each way, told apart by its `op`.

Every draw follows from the seed of the training, the epoch and the place of the row in it, so that a training that was killed goes
on with the same changes. Validation and test rows are never changed.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from leptonai.core.nouns import Frozen
from leptonai.core.signature import FeatureType

Share = Annotated[float, Field(ge=0, le=1)]
Fill = Literal["edge", "zero"]  # what comes in from beyond the border: the border's own values, or 0


class Chance(Frozen):
    """What all ways have in common."""

    p: Share = 1.0  # the chance that a row is changed


class Step(Chance):
    """A way that changes columns by themselves."""

    columns: tuple[str, ...] | None = None  # None: all columns of a type that it fits


class Flip(Step):
    """Mirror an image, left to right and, where asked, upside down; each with the chance `p`."""

    op: Literal["flip"] = "flip"
    p: Share = 0.5
    horizontal: bool = True
    vertical: bool = False


class Shift(Step):
    """Move an image, or a signal along its first axis, by at most the share `by` of its length."""

    op: Literal["shift"] = "shift"
    by: Share = 0.1
    fill: Fill = "edge"


class Rotate(Step):
    """Turn an image by at most so many degrees, either way."""

    op: Literal["rotate"] = "rotate"
    degrees: float = Field(default=15.0, ge=0, le=180)
    fill: Fill = "edge"


class Crop(Step):
    """Cut out a part of an image, whose sides are at least the share `least`, and enlarge it to the whole."""

    op: Literal["crop"] = "crop"
    least: float = Field(default=0.8, gt=0, le=1)


class Colour(Step):
    """Change brightness (by at most a share of white), contrast and saturation (by at most a share of themselves)."""

    op: Literal["colour"] = "colour"
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2


class Blur(Step):
    """Blur an image by a Gaussian whose deviation is at most `sigma` pixels."""

    op: Literal["blur"] = "blur"
    p: Share = 0.5
    sigma: float = Field(default=1.0, gt=0, le=10)


class Noise(Step):
    """Add Gaussian noise. `std` is a share: of white for images, of the column's deviation for numbers, of the row's for signals."""

    op: Literal["noise"] = "noise"
    std: float = Field(default=0.05, ge=0, le=10)


class Cutout(Step):
    """Blacken a rectangle whose sides are at most the share `share` of the image's (DeVries and Taylor 2017)."""

    op: Literal["cutout"] = "cutout"
    p: Share = 0.5
    share: Share = 0.4


class Gain(Step):
    """Make a signal louder or quieter, by at most so many decibels."""

    op: Literal["gain"] = "gain"
    decibels: float = Field(default=6.0, ge=0, le=60)


class SpecAugment(Step):
    """Blank bands of time (first axis) and of frequency (second axis) of a spectrogram (Park and others 2019)."""

    op: Literal["specaugment"] = "specaugment"
    time: Share = 0.1  # the widest band, as a share of the axis
    frequency: Share = 0.1
    masks: int = Field(default=2, ge=1, le=20)  # on each axis


class Mixup(Chance):
    """Blend each row with another one of its batch, labels too (Zhang and others 2018); weights are Beta(alpha, alpha).

    A loss that takes no blended labels gets one of the two, drawn by weight; so do categories among the columns.
    """

    op: Literal["mixup"] = "mixup"
    alpha: float = Field(default=0.2, gt=0, le=10)


class Cutmix(Chance):
    """Paste a rectangle of another image of the batch, and blend the labels by its area (Yun and others 2019)."""

    op: Literal["cutmix"] = "cutmix"
    p: Share = 0.5
    alpha: float = Field(default=1.0, gt=0, le=10)


class Smote(Frozen):
    """Add made rows of the rarer classes of a table until all have as many (Chawla and others 2002; by imbalanced-learn).

    Once, before the first epoch, from rows of the training part alone; needs the extra ``lepton-ai-sdk[labels]``.
    """

    op: Literal["smote"] = "smote"
    neighbours: int = Field(default=5, ge=1, le=100)


class DropWords(Step):
    """Leave out words of a text, each with the chance `share`; one word at least stays."""

    op: Literal["drop_words"] = "drop_words"
    share: Share = 0.1


class SwapWords(Step):
    """Swap neighbouring words, each pair with the chance `share`."""

    op: Literal["swap_words"] = "swap_words"
    share: Share = 0.1


class Synonyms(Step):
    """Replace words that the table knows, in any case, by one of theirs, each with the chance `share`."""

    op: Literal["synonyms"] = "synonyms"
    table: dict[str, tuple[str, ...]]
    share: Share = 0.2


def _named(value: Any) -> Any:
    """Take words for a step: ``flip``, or ``rotate:degrees=10,fill=zero``. Values are JSON, else text."""
    if not isinstance(value, str):
        return value
    op, _, options = value.partition(":")
    found: dict[str, Any] = {"op": op.strip()}
    for option in filter(None, options.split(",")):
        name, equals, text = option.partition("=")
        if not equals:
            raise ValueError(f"{value!r} is not STEP:NAME=VALUE,…, such as rotate:degrees=10")
        try:
            found[name.strip()] = json.loads(text)
        except ValueError:
            found[name.strip()] = text
    return found


AnyStep = Annotated[
    Annotated[
        Flip | Shift | Rotate | Crop | Colour | Blur | Noise | Cutout | Gain | SpecAugment | Mixup | Cutmix | Smote | DropWords
        | SwapWords | Synonyms,
        Field(discriminator="op"),
    ],
    BeforeValidator(_named),
]  # fmt: skip


class Steps(Frozen):
    """Ways to change rows, in this order."""

    augment: Annotated[tuple[AnyStep, ...], Field(max_length=32)] = ()


_NUMBERS = (FeatureType.NUMBER, FeatureType.INTEGER, FeatureType.DATETIME)
_SIGNALS = (FeatureType.TENSOR, FeatureType.AUDIO)
FITS: Mapping[str, tuple[FeatureType, ...]] = {
    **dict.fromkeys(("flip", "rotate", "crop", "colour", "blur", "cutout", "cutmix"), (FeatureType.IMAGE,)),
    "shift": (FeatureType.IMAGE, *_SIGNALS),
    "noise": (FeatureType.IMAGE, *_SIGNALS, *_NUMBERS),
    **dict.fromkeys(("gain", "specaugment"), _SIGNALS),
    "mixup": tuple(kind for kind in FeatureType if kind not in (FeatureType.TEXT, FeatureType.BOXES)),
    "smote": (*_NUMBERS, FeatureType.CATEGORY, FeatureType.BOOLEAN),
    **dict.fromkeys(("drop_words", "swap_words", "synonyms"), (FeatureType.TEXT,)),
}
"""The types of columns that each way fits."""
