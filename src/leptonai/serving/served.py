"""What a serving process is told of a version of a model: no record, since those need pydantic, of which each process would hold 12 MB."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from leptonai.core.signature import Signature

if TYPE_CHECKING:
    from leptonai.core.nouns import Model


@dataclass(frozen=True)
class Served:
    """A version that is served. Each field is that of its Model."""

    id: str
    name: str
    version: int
    digest: str
    framework: str
    files: Mapping[str, str]
    signature: Signature
    created: datetime
    lineage: Mapping[str, Any]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Make it of what `told` made."""
        more = {"signature": Signature.of(said["signature"]), "created": datetime.fromisoformat(said["created"])}
        return cls(**{**said, **more})


def told(model: "Model") -> dict[str, Any]:
    """Return what a serving process is told of a Model, as JSON takes it."""
    return model.model_dump(mode="json", include=set(Served.__dataclass_fields__))
