"""Encoded batches of a dataset in any order: held in memory while that is cheap, else read as they are needed."""

import math
from collections.abc import Generator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.ahead import ahead
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.several import packed
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Reader, Shuffle
from leptonai.training.balance import even_order
from leptonai.training.encoder import column_names, encode, targets, width
from leptonai.training.several import of_input
from leptonai.training.sharing import Share
from leptonai.training.spec import Encoding

_WHOLE = ("channels_first", "channels_last")

Array = NDArray[Any]
MEMORY = 2**31  # bytes; a part of a dataset that is larger is read again in each epoch
READY = 2  # batches that are made ahead


class Rows:
    """The rows of a Reader as (x, y) batches. Images stay uint8 in memory and become float32 batch by batch.

    `share`: which part of every batch is given; of rows that are not held, the part's own shards are read, and no others.
    """

    def __init__(
        self,
        reader: Reader,
        encoding: Encoding,
        entries: int | None = None,
        memory: int = MEMORY,
        share: Share = Share(),  # noqa: B008  # frozen
    ):
        self._share = share
        self.count = reader.rows
        self._reader, self._encoding, self._entries = reader, encoding, entries
        self._names = column_names(encoding, target=True)
        self._missing_columns()
        self._late = encoding.layout in _WHOLE or bool(encoding.inputs)  # encoded when it is used
        self._x: Array | None = None
        self._even: int | None = None  # the seed of epochs in which each class comes equally often
        if self.bytes <= memory // share.of:
            self._hold()

    def _missing_columns(self) -> None:
        have = {column.name for column in self._reader.columns}
        if gone := [name for name in self._names if name not in have]:
            raise Invalid(
                f"the data has no column {gone[0]!r}, which the model learnt from",
                errors=[FieldError(name, "missing column") for name in gone],
            )

    @property
    def bytes(self) -> int:
        """About how much memory all rows take, as they are held."""
        sizes = {
            feature.column: math.prod(feature.shape) * (1 if feature.type == FeatureType.IMAGE else 4)
            for feature in self._encoding.features
        }
        encoded = 0 if self._late else 4 * sum(map(width, self._encoding.features))
        return self.count * (sum(sizes.values()) * (1 if self._late else 3) + encoded + 8)

    def _hold(self) -> None:
        columns = self._reader.read(self._names)
        self._y = targets(self._encoding, columns)
        if self._encoding.inputs:
            self._x = held(self._encoding, columns)
        elif self._late:
            self._x = np.asarray(columns[self._encoding.features[0].column])
        else:
            self._x = self._checked(encode(self._encoding, columns))

    @property
    def window(self) -> int:
        """How many rows can be shuffled together; 0: all of them."""
        return 0 if self._x is not None else self._reader.window(self._names)

    def batches(
        self, size: int, shuffle: Shuffle | None = None, epoch: int = 0, start: int = 0
    ) -> Generator[tuple[Array, Array], None, None]:
        """Yield (x, y), in the order of an epoch from its place `start` on, else as stored."""
        if self._x is None:
            yield from ahead(self._read(size, shuffle, epoch, start), READY)
            return
        order = None if shuffle is None else self._order(shuffle, epoch)
        for at in range(start, self.count, size):
            part = self._share.part(min(size, self.count - at))
            low, high = at + part.start, at + part.stop
            if order is None:
                x, y = self._x[low:high], self._y[low:high]
            else:  # `take` copies whole rows; indexing goes value by value
                rows = order[low:high]
                x, y = self._x.take(rows, axis=0), self._y.take(rows, axis=0)
            yield self._encoded(x) if self._late else x, y

    def steps(self, size: int) -> int:
        """Return how many batches an epoch has."""
        if self.held or self._share.of == 1:
            return -(-self.count // size)
        return -(-(self.count // self._share.of) // self._own(size))

    def place(self, size: int, batch: int) -> int:
        """Return which place of the epoch the first row of this part's batch has, counted from 0."""
        at = batch * size
        if self.held:
            return at + int(self._share.part(min(size, self.count - at)).start)
        return self._share.number * (self.count // self._share.of) + batch * self._own(size)

    def _own(self, size: int) -> int:
        return max(1, size // self._share.of)

    @property
    def held(self) -> bool:
        """Whether all rows are in memory."""
        return self._x is not None

    def put(self, x: Array, y: Array) -> None:
        """Take these rows, encoded, in place of those that are held."""
        self._x, self._y, self.count = x, y, len(x)

    @property
    def labels(self) -> Array:
        """The targets of all rows."""
        return self._y if self.held else targets(self._encoding, self._reader.read(self._encoding.targets))

    def values(self, column: str) -> Array:
        """Return a column of the dataset, of all rows: it need not be one that the model sees."""
        return np.asarray(self._reader.read((column,))[column])

    def even(self, seed: int | None) -> None:
        """Have each class come equally often in an epoch, from now on; None: have each row come once."""
        self._even = seed

    def _order(self, shuffle: Shuffle, epoch: int) -> Array:
        if self._even is not None:
            return even_order(self._y, self._even, epoch)
        if self.count == self._reader.rows:
            return np.asarray(self._reader.order(shuffle, epoch))
        return np.random.default_rng([shuffle.seed, epoch]).permutation(self.count)  # there are made rows among them

    def all(self) -> tuple[Array, Array]:
        """Return all rows at once, for a model that learns in one fit."""
        if self._even is not None and self._x is not None:
            order = even_order(self._y, self._even, 0)
            x = self._x.take(order, axis=0)
            return self._encoded(x) if self._late else x, self._y.take(order, axis=0)
        with closing(self.batches(self.count)) as batches:
            return next(batches)

    def _encoded(self, values: Array) -> Array:
        if self._encoding.inputs:
            return unheld(self._encoding, values)
        return self._checked(encode(self._encoding, {self._encoding.features[0].column: values}))

    def _read(
        self, size: int, shuffle: Shuffle | None, epoch: int, start: int
    ) -> Generator[tuple[Array, Array], None, None]:
        where = {"rank": self._share.number, "world": self._share.of} if self._share.of > 1 else {}
        if where:
            start, size = start // size * self._own(size), self._own(size)
        for columns in self._reader.batches(
            size, columns=self._names, shuffle=shuffle, epoch=epoch, start=start, **where
        ):
            yield self._checked(encode(self._encoding, columns)), targets(self._encoding, columns)

    def _checked(self, x: Array) -> Array:
        check_range(x, self._encoding, self._entries)
        return x


def held(encoding: Encoding, columns: Any) -> Array:
    """Return the rows of several inputs as they are kept in memory: tables encoded, images and other arrays as they are."""
    parts = {part.name: of_input(encoding, part) for part in encoding.inputs}
    found: Array = packed(
        {
            name: np.asarray(columns[part.features[0].column]) if part.layout in _WHOLE else encode(part, columns)
            for name, part in parts.items()
        }
    )
    return found


def unheld(encoding: Encoding, rows: Array) -> Array:
    """Return rows that `held` gave, all encoded."""
    parts = {part.name: of_input(encoding, part) for part in encoding.inputs}
    found: Array = packed(
        {
            name: encode(part, {part.features[0].column: rows[name]}) if part.layout in _WHOLE else rows[name]
            for name, part in parts.items()
        }
    )
    return found


def check_range(x: Array, encoding: Encoding, entries: int | None) -> None:
    """Raise `Invalid` that names the column whose numbers an embedding of so many entries does not know."""
    if entries is None or encoding.dtype != "int64" or not x.size or (x.min() >= 0 and x.max() < entries):
        return
    at = 0
    for feature in encoding.features:
        part = x if len(encoding.features) == 1 else x[:, at : at + width(feature)]
        at += width(feature)
        if part.min() < 0 or part.max() >= entries:
            bad = part.min() if part.min() < 0 else part.max()
            raise Invalid(
                f"the model begins with an embedding of {entries} entries, numbered from 0, and column {feature.column!r} "
                f"holds {bad}: make the embedding larger, or leave the column out with features=[…]",
                errors=[FieldError(feature.column, f"0 to {entries - 1}")],
            )
