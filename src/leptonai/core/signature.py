"""What a model takes and gives. Plain dataclasses: a serving process, of which there is one for each core, holds them without pydantic.

Where they are fields of a record, pydantic validates them like any other; it refuses fields that it does not know.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal, Self


class FeatureType(StrEnum):
    """What a column means to a model."""

    NUMBER = "number"
    INTEGER = "integer"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    BOXES = "boxes"
    TENSOR = "tensor"


# custom: the outputs as they are, by name
Task = Literal["classification", "regression", "custom", "chat", "embedding"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model, in the words of the Open Inference Protocol."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    datatype: str  # BOOL, UINT8, INT64, FP32, FP64, BYTES
    shape: tuple[int, ...]  # the first is the batch, -1
    type: FeatureType | None = None  # what it means, when it is a column
    categories: tuple[str | int, ...] = ()
    rate: int | None = None  # of sound: samples a second; None: whatever a file has

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Make it of its JSON, which this program wrote: nothing is checked."""
        type = None if said.get("type") is None else FeatureType(said["type"])
        more = {"shape": tuple(said["shape"]), "categories": tuple(said.get("categories", ())), "type": type}
        return cls(**{**said, **more})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        type = None if self.type is None else self.type.value
        return {**asdict(self), "shape": list(self.shape), "type": type, "categories": list(self.categories)}


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    task: Task
    classes: tuple[str | int, ...] = ()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Make it of its JSON, which this program wrote: nothing is checked."""
        inputs, outputs = (tuple(TensorSpec.of(item) for item in said[side]) for side in ("inputs", "outputs"))
        return cls(inputs, outputs, said["task"], tuple(said.get("classes", ())))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        sides = {side: [spec.to_dict() for spec in getattr(self, side)] for side in ("inputs", "outputs")}
        return {**sides, "task": self.task, "classes": list(self.classes)}
