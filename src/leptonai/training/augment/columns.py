"""Batches of columns changed outside a training: as a `Reader`, a loader of this platform or one of a user's own gives them."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.signature import FeatureType
from leptonai.training.augment import boxes, mixing, words
from leptonai.training.augment.apply import IMAGE, SIGNAL
from leptonai.training.augment.draws import Draws
from leptonai.training.augment.spec import (
    FITS,
    Cutmix,
    Cutout,
    DropWords,
    Flip,
    Mixup,
    Shift,
    Smote,
    SwapWords,
    Synonyms,
)

Array = NDArray[Any]
Columns = dict[str, Array]
_WORDS = (DropWords, SwapWords, Synonyms)
_BLENDS = (Mixup, Cutmix)
_WHOLE = (Flip, Shift, Cutout)  # move or blacken whole pixels
_CHOSEN = (
    FeatureType.CATEGORY,
    FeatureType.BOOLEAN,
    FeatureType.DATETIME,
)  # what has no values between, or may be missing
_CACHED = 1 << 17  # values that the processor's cache holds
_NO_TIME = np.iinfo(np.int64).min  # how a missing moment is written


class Kind(NamedTuple):
    """What a column holds, as far as changes go by it."""

    type: FeatureType
    std: float = 1.0  # of numbers, of which `noise` takes a share
    classes: int = 0  # of a target whose values are their numbers, -1 for none


class ColumnAugmenter:
    """Changes batches of columns whose kinds are known; what they are not known of stays as it is.

    Images are uint8 (rows, height, width, channels), signals (rows, time, …), texts and boxes arrays of objects. Boxes go where what
    they hold goes. A blended target of classes becomes shares of them, float32 (rows, classes). Each batch is a pure function of its
    place, and arrays that are given are not touched. Raises `Invalid` where boxes would have to follow several images.
    """

    def __init__(self, steps: Sequence[Any], kinds: Mapping[str, Kind], target: str | None, seed: int):
        self._steps = [(number, step) for number, step in enumerate(steps) if not isinstance(step, Smote)]
        self._kinds = {name: kind for name, kind in kinds.items() if name != target}
        self._target = target if target in kinds else None
        self._classes = 0 if self._target is None else kinds[self._target].classes
        self._seed = seed
        self._boxes = [name for name, kind in self._kinds.items() if kind.type is FeatureType.BOXES]
        for step in steps:
            if self._boxes and isinstance(step, boxes.MOVES) and len(self.fits(step)) > 1:
                listed = ", ".join(self.fits(step))
                raise Invalid(
                    f"augment: {step.op} would change the images {listed} each in its own way, and the boxes {self._boxes[0]!r} follow "
                    "one: name it with columns=[…]",
                    errors=[FieldError(f"{step.op}.columns", f"one of {listed}")],
                )

    def fits(self, step: Any) -> list[str]:
        """Return the columns that a step changes."""
        wanted = getattr(step, "columns", None)
        fits = [name for name, kind in self._kinds.items() if kind.type in FITS[step.op]]
        return [name for name in fits if wanted is None or name in wanted]

    def __call__(self, batch: Mapping[str, Any], epoch: int, start: int) -> Columns:
        """Return a batch with its columns changed; `start` is the place of its first row in the epoch."""
        found = {name: np.asarray(values) for name, values in batch.items()}
        rows = len(next(iter(found.values()), ()))
        for blends, steps in groupby(self._steps, lambda pair: isinstance(pair[1], _BLENDS)):
            if not blends:
                found |= self._alone(list(steps), found, epoch, start, rows)
                continue
            draws = Draws(self._seed, epoch, start, rows)
            for number, step in steps:
                draws.step(number)
                found |= self._blended(step, found, draws)
        return found

    def _alone(self, steps: list[tuple[int, Any]], given: Columns, epoch: int, start: int, rows: int) -> Columns:
        """Change rows by themselves, as many at once as the processor's cache holds: which come together does not matter."""
        names = {name for _, step in steps for name in self.fits(step)}
        wide = max((given[name][:1].size for name in names), default=1)
        many = max(1, _CACHED // max(1, wide))
        touched = names | set(self._boxes)
        parts = []
        for at in range(0, rows, many):
            some = {name: given[name][at : at + many] for name in touched}
            parts.append(self._some(steps, some, Draws(self._seed, epoch, start + at, min(many, rows - at))))
        return {name: np.concatenate([part[name] for part in parts]) for name in touched} if parts else {}

    def _some(self, steps: list[tuple[int, Any]], found: Columns, draws: Draws) -> Columns:
        light: Columns = {}  # images as shares of white, until all steps are done
        for number, step in steps:
            draws.step(number)
            for name in self.fits(step):
                if self._kinds[name].type is not FeatureType.IMAGE:
                    found[name] = self._changed(step, name, found[name], draws)
                    continue
                before, shape = draws.again(), found[name].shape[1:3]
                if name not in light and isinstance(step, _WHOLE):  # bytes are a quarter of the way
                    found[name] = IMAGE[step.op](step, found[name].copy(), draws)
                else:
                    if name not in light:
                        light[name] = np.divide(found[name], np.float32(255), dtype=np.float32)
                    light[name] = IMAGE[step.op](step, light[name], draws)
                if isinstance(step, boxes.MOVES):
                    found |= {it: boxes.follow(step, found[it], shape, before.again()) for it in self._boxes}
        return found | {name: np.rint(x * np.float32(255)).astype(np.uint8) for name, x in light.items()}

    def _changed(self, step: Any, name: str, values: Array, draws: Draws) -> Array:
        if isinstance(step, _WORDS):
            return words.change(step, values, draws)
        if values.ndim > 1:
            return _as(values.dtype, SIGNAL[step.op](step, values.astype(np.float32), draws))
        size = np.float32(step.std * self._kinds[name].std) * draws.chosen(step.p)
        return _as(values.dtype, values + draws.normal() * size, values)

    def _blended(self, step: Any, given: Columns, draws: Draws) -> Columns:
        partners = draws.partners()
        found: Columns = {}
        if isinstance(step, Cutmix):
            (name,) = self.fits(step)
            found[name], kept = mixing.cutmix(step, given[name], draws, partners)
        else:
            kept = mixing.weights(step, draws)
            for name in self.fits(step):
                values = given[name]
                if self._kinds[name].type in _CHOSEN:
                    found[name] = mixing.choose(values, partners, kept, draws)
                else:
                    found[name] = _as(values.dtype, mixing.blend(values, partners, kept))
        if self._target is not None:
            y = given[self._target]
            y = y if self._classes else y.astype(np.float32)
            found[self._target] = mixing.labels(y, self._classes, soft=True, partners=partners, kept=kept, draws=draws)
        return found


def _as(dtype: Any, values: Array, before: Array | None = None) -> Array:
    """Return values as a column has them: whole numbers stay whole, and moments that are missing missing."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    whole: Array = np.rint(values).astype(dtype)
    return whole if before is None or dtype != np.int64 else np.where(before == _NO_TIME, before, whole)


def change_columns(
    batch: Mapping[str, Any], steps: Sequence[Any], *, seed: int, epoch: int, start: int
) -> dict[str, Any]:
    """Return a batch with its columns changed; labels, and what no step fits, stay as they are.

    uint8 (rows, height, width, channels) is an image, float (rows, time, …) a signal, an array of objects text, or boxes where its
    values are arrays (count, 5). `start` is the place of the first row in the epoch. Raises `Invalid` for a step that blends
    rows, changes numbers, or fits no column.
    """
    found = {name: np.asarray(values) for name, values in batch.items()}
    kinds = {name: Kind(kind) for name, values in found.items() if (kind := _kind(values)) is not None}
    augmenter = ColumnAugmenter(steps, kinds, None, seed)
    for step in steps:
        if not hasattr(step, "columns") or not augmenter.fits(step):
            right = "steps that change images, signals or texts by themselves"
            raise Invalid(
                f"augment: {step.op} fits none of the columns: use {right}", errors=[FieldError(step.op, right)]
            )
    return augmenter(found, epoch, start)


def _kind(values: Array) -> FeatureType | None:
    if values.dtype == np.uint8 and values.ndim == 4:
        return FeatureType.IMAGE
    if values.dtype.kind == "f" and values.ndim > 1:
        return FeatureType.TENSOR
    if values.dtype != object:
        return None
    first = next((value for value in values if value is not None), None)
    return FeatureType.BOXES if isinstance(first, np.ndarray) else FeatureType.TEXT
