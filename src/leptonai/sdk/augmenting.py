"""How the rows of a dataset are changed on their way to who learns from them, as it was declared."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from leptonai.core.nouns import Dataset as DatasetRecord
from leptonai.core.refs import Split
from leptonai.sdk.specs import check
from leptonai.training.augment.spec import Steps

if TYPE_CHECKING:
    from leptonai.sdk.datasets import Dataset

Step = Any
"""A word such as ``flip`` or ``rotate:degrees=10``, a dict with an ``op``, or a value of `leptonai.augment`."""


def steps_of(steps: Sequence[Step], what: str = "augment") -> tuple[Any, ...]:
    """Return steps as values. Raises `Invalid` that names the one that is not known."""
    if isinstance(steps, (str, Mapping)) or hasattr(steps, "op"):
        steps = [steps]
    return check(Steps, {"augment": tuple(steps)}, what).augment


def as_json(steps: Sequence[Step], what: str = "augment") -> list[dict[str, Any]]:
    """Return steps as JSON data."""
    return [step.model_dump(mode="json", exclude_none=True) for step in steps_of(steps, what)]


def steps_to_send(data: "Dataset | str", augment: Sequence[Step] | None) -> list[dict[str, Any]] | None:
    """Return what a training on this data is asked for; None: what the version declares, which the server knows."""
    if augment is not None:
        return as_json(augment, "fit")
    return None if isinstance(data, str) or data._steps is None else as_json(data.augmentation, "fit")


class Augmentable:
    """A dataset version, as far as its rows are changed on their way."""

    record: DatasetRecord
    _splits: tuple[Split, ...]
    _steps: tuple[Any, ...] | None = None  # in place of what the version declares

    @property
    def augmentation(self) -> tuple[Any, ...]:
        """How its rows are changed for who learns from them: as `augment` said, else as the version declares; a test part never."""
        if any(split.part == "test" for split in self._splits):
            return ()
        return steps_of(self.record.source.get("augment", ())) if self._steps is None else self._steps

    def augment(self, *steps: Step) -> "Dataset":
        """Return the same rows, to be changed on their way: by `Model.fit`, by `torch` and by `keras`; without steps, not at all.

        A step is a word such as ``"flip"`` or ``"rotate:degrees=10"``, a dict, or a value of `leptonai.augment`. Of its parts only the
        one for training is changed. What the version declares (``create_dataset(…, augment=[…])``) is what this replaces.
        """
        given = cast("Dataset", self)
        found = type(given)(given.record, given.client, given.splits, given.counts)
        found._steps = steps_of(steps)
        return found
