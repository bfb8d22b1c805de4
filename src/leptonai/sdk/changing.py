"""What changes batches of a dataset on their way to who learns outside of a Run: the same steps as in `Model.fit`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.data.loader_pack import Place
from leptonai.training.augment.check import check_steps
from leptonai.training.augment.columns import ColumnAugmenter, Kind
from leptonai.training.augment.spec import Smote

_CLASSES = (FeatureType.CATEGORY, FeatureType.BOOLEAN)
_ARRAYS = (FeatureType.IMAGE, FeatureType.AUDIO, FeatureType.TENSOR)


class Changing:
    """Changes packed batches. Raises `Invalid` for a step that does not fit the columns."""

    def __init__(
        self,
        steps: Sequence[Any],
        columns: Sequence[Column],
        places: Mapping[str, Place],
        target: str | None,
        seed: int,
    ):
        goal = next((column for column in columns if column.name == target), None)
        check_steps(
            steps,
            [column for column in columns if column is not goal],
            classes=goal is not None and goal.type in _CLASSES,
            arrays=goal is not None and goal.type in _ARRAYS,
        )
        self._places = dict(places)
        self._target = None if goal is None else goal.name
        kinds = {column.name: Kind(column.type, _deviation(column), _classes(column)) for column in columns}
        self._augmenter = ColumnAugmenter(steps, kinds, self._target, seed)
        self.evens = next((step for step in steps if isinstance(step, Smote)), None)  # done once, by `evened.Evened`

    def columns(self, batch: Mapping[str, Any], epoch: int, start: int) -> dict[str, Any]:
        """Return the columns of a batch, by name, changed; `start` is the place of its first row in the epoch."""
        given = {
            name: batch[array] if at is None else batch[array][:, at] for name, (array, at) in self._places.items()
        }
        return self._augmenter(given, epoch, start)

    def pairs(self, batch: Mapping[str, Any], epoch: int, start: int) -> dict[str, Any]:
        """Return x, and y where there is one, of a batch of these, changed."""
        found = self.columns(batch, epoch, start)
        y = {} if self._target is None else {"y": found.pop(self._target)}
        if self._places[next(iter(found))].at is None:  # images, or tensors
            return {"x": next(iter(found.values())), **y}
        x = np.empty_like(batch["x"])
        for name, values in found.items():
            x[:, self._places[name].at] = values
        return {"x": x, **y}


def _deviation(column: Column) -> float:
    if column.type is FeatureType.DATETIME and column.stats.get("min"):  # microseconds; as if spread evenly
        low, high = (datetime.fromisoformat(column.stats[word]) for word in ("min", "max"))
        return (high - low).total_seconds() * 1e6 / 12**0.5
    return float(column.stats.get("std") or 1.0)


def _classes(column: Column) -> int:
    return 2 if column.type is FeatureType.BOOLEAN else len(column.categories)
