"""Whole batches changed on their way to a model: after they are encoded, before they are learnt from.

`Augmenter` is a pure function of a batch and its place, so that a training that was killed goes on with the same changes.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column
from leptonai.training.augment import images, mixing, signals
from leptonai.training.augment.draws import Draws
from leptonai.training.augment.spec import FITS, Cutmix, Mixup, Noise, Smote
from leptonai.training.encoder import width
from leptonai.training.spec import Encoding, FeatureCode

Array = NDArray[Any]
IMAGE: Mapping[str, Callable[..., Array]] = {
    "flip": images.flip, "shift": images.shift, "rotate": images.rotate, "crop": images.crop, "colour": images.colour,
    "blur": images.blur, "noise": images.noise, "cutout": images.cutout,
}  # fmt: skip
SIGNAL: Mapping[str, Callable[..., Array]] = {
    "shift": signals.shift, "gain": signals.gain, "noise": signals.noise, "specaugment": signals.specaugment,
}  # fmt: skip
_CACHED = 1 << 17  # values
_BLENDS = ("scale", "time", "raw", "image", "tensor")  # the others are categories, of which one is drawn


class Augmenter:
    """Changes encoded batches (x, y). `soft`: whether the loss takes shares of classes (rows, classes) in place of numbers.

    `columns` tell the deviation of numbers that the model takes unscaled. Raises `Invalid` where the model takes whole numbers.
    """

    def __init__(self, steps: Sequence[Any], encoding: Encoding, columns: Sequence[Column], seed: int, *, soft: bool):
        if steps and encoding.dtype == "int64":
            raise Invalid(
                "augment changes numbers by parts, and the model begins with an embedding, which takes whole numbers: leave it out",
                errors=[FieldError("augment", "not with an embedding")],
            )
        self._steps = [(number, step) for number, step in enumerate(steps) if not isinstance(step, Smote)]
        self._encoding, self._seed, self._soft = encoding, seed, soft
        stats = {column.name: float(column.stats.get("std") or 1.0) for column in columns}
        self._places: list[tuple[FeatureCode, slice, float]] = []
        at = 0
        for feature in encoding.features:
            unit = stats.get(feature.column, 1.0) if feature.op == "raw" else 1.0
            self._places.append((feature, slice(at, at + width(feature)), unit))
            at += width(feature)

    def batches(
        self, given: Iterable[tuple[Array, Array]], epoch: int, start: int
    ) -> Generator[tuple[Array, Array], None, None]:
        """Yield the batches of an epoch, changed; `start` is the place of the first row of the first one."""
        for x, y in given:
            yield self(x, y, epoch, start)
            start += len(x)

    def __call__(self, x: Array, y: Array, epoch: int, start: int) -> tuple[Array, Array]:
        """Return a changed copy of a batch; `start` is the place of its first row in the epoch."""
        if not self._whole:
            x = x.copy()  # it may be a view of rows that are kept
        for blends, steps in groupby(self._steps, lambda pair: isinstance(pair[1], (Mixup, Cutmix))):
            if not blends:
                x = self._alone(list(steps), x, epoch, start)
                continue
            draws = Draws(self._seed, epoch, start, len(x))
            for number, step in steps:
                draws.step(number)
                x, y = self._mixed(step, x, y, draws)
        return np.ascontiguousarray(x) if self._encoding.layout == "table" else x, y

    def _alone(self, steps: Sequence[tuple[int, Any]], x: Array, epoch: int, start: int) -> Array:
        """Change rows by themselves, as many at once as the processor's cache holds: which rows come together does not matter."""
        many = max(1, _CACHED // max(1, x[:1].size))
        if many >= len(x):
            return self._some(steps, x, epoch, start)
        for at in range(0, len(x), many):
            x[at : at + many] = self._some(steps, x[at : at + many], epoch, start + at)
        return x

    def _some(self, steps: Sequence[tuple[int, Any]], x: Array, epoch: int, start: int) -> Array:
        draws = Draws(self._seed, epoch, start, len(x))
        for number, step in steps:
            draws.step(number)
            x = self._changed(step, x, draws)
        return x

    @property
    def _whole(self) -> bool:
        return self._encoding.layout in ("channels_first", "channels_last")

    def _changed(self, step: Any, x: Array, draws: Draws) -> Array:
        for feature, place, unit in self._places:
            if (step.columns is not None and feature.column not in step.columns) or feature.type not in FITS[step.op]:
                continue
            if feature.op in ("image", "tensor"):
                change = (IMAGE if feature.op == "image" else SIGNAL).get(step.op)
                if change is not None:
                    x = self._put(x, feature, place, change(step, self._taken(x, feature, place), draws))
            elif isinstance(step, Noise):
                size = np.float32(step.std * unit) * draws.chosen(step.p)
                x[:, place] += draws.normal((1,)) * size[:, None]
        return x

    def _taken(self, x: Array, feature: FeatureCode, place: slice) -> Array:
        """Return the values of an image or tensor feature, (rows, *shape)."""
        if self._encoding.layout == "channels_first":
            return np.ascontiguousarray(x.transpose(0, 2, 3, 1))  # how they lie in memory already
        return x if self._whole else np.ascontiguousarray(x[:, place]).reshape(len(x), *feature.shape)

    def _put(self, x: Array, feature: FeatureCode, place: slice, values: Array) -> Array:
        if self._encoding.layout == "channels_first" and feature.op == "image":
            return values.transpose(0, 3, 1, 2)
        if self._whole:
            return values
        x[:, place] = values.reshape(len(x), -1)
        return x

    def _mixed(self, step: Mixup | Cutmix, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        partners = draws.partners()
        if isinstance(step, Cutmix):
            kept = np.ones(len(x), np.float32)
            for feature, place, _ in self._places:
                values, kept = mixing.cutmix(step, self._taken(x, feature, place), draws, partners)
                x = self._put(x, feature, place, values)
        else:
            kept = mixing.weights(step, draws)
            if self._whole:
                x = mixing.blend(x, partners, kept)
            else:
                before = x.copy()
                for feature, place, _ in self._places:
                    part = before[:, place]
                    blends = feature.op in _BLENDS
                    x[:, place] = (
                        mixing.blend(part, partners, kept) if blends else mixing.choose(part, partners, kept, draws)
                    )
        classes = len(self._encoding.classes)
        return x, mixing.labels(y, classes, soft=self._soft, partners=partners, kept=kept, draws=draws)
