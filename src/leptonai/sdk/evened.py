"""Rows of a loader with made ones of the rarer classes after them (SMOTE): all are held, since neighbours are looked for among all."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.data.loader import Loader, take
from leptonai.data.loader_order import Numbers, Piece
from leptonai.data.loader_pack import Packed
from leptonai.training.augment.smote import smote_columns
from leptonai.training.augment.spec import Smote

_CODES = (FeatureType.CATEGORY, FeatureType.BOOLEAN)
Batch = dict[str, Any]


class Evened:
    """A `loader.Source` of packed rows. Raises `Invalid` where they do not fit into `memory`, or a class has too few."""

    def __init__(self, packed: Packed, memory: int, columns: Sequence[Column], target: str, step: Smote, seed: int):
        if not Loader(packed, memory).fits:
            size = sum(packed.counts) * packed.width / 2**30
            raise Invalid(
                f"augment: smote needs all rows in memory, and these take about {size:.1f} GiB of the {memory / 2**30:.1f} GiB that they "
                "may: leave it out, or take a part of them",
                errors=[FieldError("augment.smote", "fewer rows")],
            )
        self.places, self.width = packed.places, packed.width
        whole = Loader(packed, memory).all()
        features = [column for column in columns if column.name != target]
        kinds: dict[bool, Batch] = {False: {}, True: {}}  # numbers, and codes
        for column in features:
            kinds[column.type in _CODES][column.name] = self._of(whole, column.name)
        goal = next(column for column in columns if column.name == target)
        classes = (False, True) if goal.type is FeatureType.BOOLEAN else goal.categories
        y = self._of(whole, target)
        made, labels = smote_columns(step, kinds[False], kinds[True], y, classes, seed)
        self._batch = {
            name: np.concatenate([v, np.zeros((len(labels), *v.shape[1:]), v.dtype)]) for name, v in whole.items()
        }
        for name, values in {**made, target: labels}.items():
            self._of(self._batch, name)[len(y) :] = values
        self.counts: Sequence[int] = (len(y) + len(labels),)

    def _of(self, batch: Batch, name: str) -> Any:
        array, at = self.places[name]
        return batch[array] if at is None else batch[array][:, at]

    def load(self, piece: Piece) -> Batch:
        """Return the rows of a piece."""
        return {name: values[piece.low : piece.high].copy() for name, values in self._batch.items()}

    def blocks(self, piece: Piece) -> Iterator[Batch]:
        """Yield the rows of a piece, as one block."""
        yield take(self._batch, None, piece.low, piece.high)

    def room(self, rows: int) -> Batch:
        """Return arrays for so many rows."""
        return {name: np.empty((rows, *values.shape[1:]), values.dtype) for name, values in self._batch.items()}

    def gather(self, numbers: Numbers) -> Batch:
        """Return rows by their numbers."""
        return take(self._batch, numbers, 0, 0)
