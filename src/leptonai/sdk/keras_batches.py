"""A dataset as Keras takes it. Importing this imports keras."""

import threading
from collections.abc import Generator
from typing import Any

import keras

from leptonai.sdk.batches import Batches


class KerasBatches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """(x, y) batches for ``model.fit``: all features as one float32 array, or the one column of images; y as numbers or classes.

    The order is shuffled here. What does not fit into memory is read ahead in that order: give ``fit`` ``shuffle=False`` then.
    """

    def __init__(self, batches: Batches):
        super().__init__()
        self.batches = batches
        self._lock = threading.Lock()
        self._coming: Generator[dict[str, Any], None, None] | None = None
        self._next = 0  # the batch that `_coming` gives

    @property
    def num_batches(self) -> int:
        """How many batches an epoch has."""
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        with self._lock:
            batch = self.batches.at(index) if self.batches.fits else self._stream(index)
        return (batch["x"], batch["y"]) if "y" in batch else (batch["x"],)

    def _stream(self, index: int) -> dict[str, Any]:
        epoch = self.batches.epoch
        if self._coming is None or index != self._next:
            self._let_go()
            self.batches.row = index * self.batches.batch_size
            self._coming = self.batches.packed()
        batch = next(self._coming)
        self.batches.epoch, self._next = epoch, index + 1  # Keras says when an epoch ends
        if self._next == len(self):
            self._let_go()
        return {name: values if values.flags.writeable else values.copy() for name, values in batch.items()}

    def __len__(self) -> int:
        return len(self.batches)

    def on_epoch_end(self) -> None:
        """Go on to the next epoch, which has an order of its own."""
        with self._lock:
            self._let_go()
            self.batches.epoch, self.batches.row = self.batches.epoch + 1, 0

    def _let_go(self) -> None:
        if self._coming is not None:
            self._coming.close()
        self._coming, self._next = None, 0
