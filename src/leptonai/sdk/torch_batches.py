"""A dataset as PyTorch takes it. Importing this imports torch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from leptonai.sdk.batches import Batches


class TorchBatches(IterableDataset[dict[str, Any]]):
    """Batches as dicts of tensors by column. Iterate over it, or give it to a ``DataLoader(…, batch_size=None)``.

    Each pass is one epoch, in an order of its own where rows are shuffled. A batch is yours: change it in place as you like.
    `state_dict` and `load_state_dict` save the place and go on from it, with the same batches.
    """

    def __init__(self, batches: Batches):
        self.batches = batches
        places = batches.source.places
        self.classes = {column.name: column.categories for column in batches.columns if column.categories}
        self._alone = [(name, place.array) for name, place in places.items() if place.at is None]
        self._grouped: dict[str, list[str]] = {}
        for name, place in places.items():
            if place.at is not None:
                self._grouped.setdefault(place.array, []).append(name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        held = self.batches
        if worker is None:
            found = held.packed()
        else:  # processes of a DataLoader share the rows
            found = held.packed(held.rank * worker.num_workers + worker.id, held.world * worker.num_workers)
        copied = held.kept
        for batch in found:
            yield self._tensors(batch, copied)

    def _tensors(self, batch: dict[str, Any], copied: bool) -> dict[str, Any]:
        if (
            self.batches.changing is not None
        ):  # by column already; those that no step changes may be views of what is kept
            return {name: _tensor(values, not values.flags.owndata) for name, values in batch.items()}
        tensors: dict[str, Any] = {}
        for name, array in self._alone:
            tensors[name] = _tensor(batch[array], copied)
        for array, names in self._grouped.items():
            tensors.update(zip(names, _tensor(batch[array], copied).unbind(1), strict=True))
        return tensors

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next batch."""
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place that `state_dict` gave."""
        self.batches.load_state_dict(state)


def _tensor(values: "np.ndarray[Any, Any]", copied: bool) -> Any:
    if values.dtype == object:
        return values.tolist()
    if copied:
        return torch.from_numpy(values.copy())
    return torch.from_numpy(values if values.flags.writeable else _owned(values))


class _Memory:
    """Memory that a read-only array lies in, as one that may be written: nobody else has what was just decrypted."""

    def __init__(self, values: "np.ndarray[Any, Any]"):
        self.kept = values
        self.__array_interface__ = {
            **values.__array_interface__,
            "data": (values.__array_interface__["data"][0], False),
        }


def _owned(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    return np.asarray(_Memory(values))
