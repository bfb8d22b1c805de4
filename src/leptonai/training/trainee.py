"""What the platform asks a Learner beyond its port, with the answer of one that was not told of it."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from leptonai.core.ports import Learner


@dataclass(frozen=True)
class Traits:
    """How a Learner wants its data. A framework's Learner says so by attributes of the same names."""

    incremental: bool = True  # learns batch by batch; else `step` is called once, with all rows
    layout: Literal["channels_first", "channels_last", "flat"] = "channels_last"  # of images
    input_dtype: Literal["float32", "int64"] = "float32"  # int64 where it begins with an embedding
    entries: int | None = None  # how many numbers that embedding knows

    @classmethod
    def of(cls, learner: Learner) -> "Traits":
        """Ask the learner."""
        return cls(**{name: getattr(learner, name) for name in cls.__dataclass_fields__ if hasattr(learner, name)})


def parameters(learner: Learner) -> int:
    """Return how many numbers it holds; 0 where it does not say."""
    return int(getattr(learner, "parameters", 0))


def last_loss(learner: Learner) -> float:
    """Return the loss of the last batch; 0 where it does not say."""
    return float(getattr(learner, "last_loss", 0.0))


def takes_shares(learner: Learner) -> bool:
    """Whether its loss, known once it has begun, takes shares of classes (rows, classes) in place of class numbers."""
    return bool(getattr(learner, "takes_shares", False))


def notes(learner: Learner) -> list[str]:
    """Return what the library warned of."""
    return list(getattr(learner, "notes", ()))


def keep(learner: Learner) -> dict[str, bytes]:
    """Return what brings these weights back: only the weights where the learner can take them, else its whole state."""
    return {"weights": learner.weights()} if hasattr(learner, "load_weights") else learner.state()


def bring_back(learner: Learner, kept: dict[str, bytes]) -> None:
    """Go back to weights that `keep` kept."""
    if hasattr(learner, "load_weights"):
        cast(Any, learner).load_weights(kept["weights"])
    else:
        learner.restore(kept)
