"""What the platform asks a Learner beyond its port, with the answer of one that was not told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from leptonai.core.errors import Unsupported
from leptonai.core.learning import Way
from leptonai.core.ports import Learner
from leptonai.core.several import Several

OURS = ("balanced_sampling",)  # what of `Learning` needs nothing of the framework


@dataclass(frozen=True)
class Traits:
    """How a Learner wants its data. A framework's Learner says so by attributes of the same names."""

    incremental: bool = True  # learns batch by batch; else `step` is called once, with all rows
    layout: Literal["channels_first", "channels_last", "flat", "text"] = "channels_last"  # of images
    # names: whole numbers are names of something, and no amounts · moments: a time is told exactly, as its day and its seconds
    columns: Literal["values", "names", "moments"] = "values"
    input_dtype: Literal["float32", "int64"] = "float32"  # int64 where it begins with an embedding
    entries: int | None = None  # how many numbers that embedding knows
    rounds: int | None = None  # `step` is called so many times, each time with all rows; None: once

    @classmethod
    def of(cls, learner: Learner) -> "Traits":
        """Ask the learner."""
        return cls(**{name: getattr(learner, name) for name in cls.__dataclass_fields__ if hasattr(learner, name)})


def suited(learner: Learner, several: Several) -> Learner:
    """Return the Learner of the same model that takes several inputs, or predicts several targets, where it is to. Raises `Unsupported`."""
    if several == Several():
        return learner
    if not hasattr(learner, "several"):
        raise Unsupported(f"{type(learner).__name__} takes one input and predicts one target")
    return cast(Learner, cast(Any, learner).several(several))


def activations(learner: Learner) -> dict[str, Any]:
    """Return what turns each of several outputs into probabilities; nothing where there is one."""
    return dict(getattr(learner, "activations", {}))


def parameters(learner: Learner) -> int:
    """Return how many numbers it holds; 0 where it does not say."""
    return int(getattr(learner, "parameters", 0))


def last_loss(learner: Learner) -> float:
    """Return the loss of the last batch; 0 where it does not say."""
    return float(getattr(learner, "last_loss", 0.0))


def learn_by(learner: Learner, way: Way) -> None:
    """Tell it, before it begins, how to learn. Raises `Unsupported` for what was asked and it knows nothing of."""
    if hasattr(learner, "learn_by"):
        cast(Any, learner).learn_by(way)
    elif found := [name for name in way.learning.asked if name not in OURS]:
        raise Unsupported(f"{found[0]}: {type(learner).__name__} cannot do it")


def alone(learner: Learner) -> None:
    """Have it learn without the other processes of its Run, to try something."""
    if hasattr(learner, "join"):
        cast(Any, learner).join(None)


def rate(learner: Learner, share: float) -> None:
    """Set its learning rate to this share of the full one."""
    cast(Any, learner).rate(share)


def thaw(learner: Learner, epoch: int) -> str | None:
    """Have it freeze what is frozen in this epoch, from 0; return a line that says so where that is new."""
    return cast(Any, learner).thaw(epoch) if hasattr(learner, "thaw") else None


def paths(learner: Learner) -> tuple[str, ...]:
    """Return the ways in which it can compute the same model, once it has begun; the plainest first."""
    return tuple(getattr(learner, "paths", ("plain",)))


def usual_path(learner: Learner) -> str:
    """Return the way that is taken where no race is worth it."""
    return str(getattr(learner, "usual_path", paths(learner)[0]))


def races(learner: Learner) -> bool:
    """Whether there is another way than the plainest."""
    return len(found := paths(learner)) > 1 or compiled_path(learner, found[0]) is not None


def path_key(learner: Learner) -> str:
    """Return what tells its model and its libraries from others, for a race that is remembered."""
    return str(cast(Any, learner).path_key)


def compiled_path(learner: Learner, path: str) -> str | None:
    """Return the name of this way when it is compiled, which takes a while; None where it cannot be."""
    found = getattr(learner, "compiled_path", None)
    return None if found is None else cast(str | None, found(path))


def time_paths(learner: Learner, x: Any, y: Any, paths: Sequence[str]) -> dict[str, float]:
    """Return the seconds of a batch by these of its ways, without those that do not work here; it is as before afterwards."""
    return dict(cast(Any, learner).time_paths(x, y, paths))


def take_path(learner: Learner, path: str) -> None:
    """Have it compute in one of its ways from now on."""
    if hasattr(learner, "take_path"):
        cast(Any, learner).take_path(path)


def sound(learner: Learner) -> bool:
    """Whether all of its weights are numbers; true where it does not say."""
    return bool(getattr(learner, "sound", True))


def takes_shares(learner: Learner) -> bool:
    """Whether its loss, known once it has begun, takes shares of classes (rows, classes) in place of class numbers."""
    return bool(getattr(learner, "takes_shares", False))


def notes(learner: Learner) -> list[str]:
    """Return what the library warned of."""
    return list(getattr(learner, "notes", ()))


def by_groups(learner: Learner, x: Any, y: Any, groups: Any) -> dict[str, float]:
    """Return how alike groups of rows are treated, as it is and as it was before that was asked for."""
    return dict(cast(Any, learner).by_groups(x, y, groups))


def may_save(learner: Learner) -> bool:
    """Whether what goes on from here comes to the same weights; true where it does not say."""
    return bool(getattr(learner, "may_save", True))


def keep(learner: Learner) -> dict[str, bytes]:
    """Return what brings these weights back: a mark, or only the weights where the learner can take them, else its whole state."""
    if hasattr(learner, "mark"):
        return {"mark": cast(Any, learner).mark()}
    return {"weights": learner.weights()} if hasattr(learner, "load_weights") else learner.state()


def bring_back(learner: Learner, kept: dict[str, bytes]) -> None:
    """Go back to weights that `keep` kept."""
    if "mark" in kept:
        cast(Any, learner).go_back(kept["mark"])
    elif hasattr(learner, "load_weights"):
        cast(Any, learner).load_weights(kept["weights"])
    else:
        learner.restore(kept)
