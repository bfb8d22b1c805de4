"""What you ask of the tuning stage, and what it answers."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from leptonai.core.nouns import Frozen

_MORE_IS_BETTER = ("acc", "accuracy", "auc", "precision", "recall", "f1", "r2", "score")
MOST_TRIALS = 10_000

Scalar = bool | int | float | str | None
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Dimension(Frozen):
    """One thing that is varied: a range of numbers, or a choice. `when`: only where other things have one of these values."""

    kind: Literal["float", "int", "choice"]
    low: Finite | None = None
    high: Finite | None = None
    log: bool = False  # as much from 0.001 to 0.01 as from 0.01 to 0.1
    step: Annotated[Finite, Field(gt=0)] | None = None
    choices: Annotated[tuple[Scalar | tuple[Scalar, ...], ...], Field(max_length=1000)] = ()
    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if self.kind == "choice":
            if not self.choices:
                raise ValueError("a choice needs at least one value in choices")
            if any(
                self.choices.index(value) != at and _same(self.choices, at) for at, value in enumerate(self.choices)
            ):
                raise ValueError("a choice names a value twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("a range needs low and high")
        if self.low > self.high:
            raise ValueError(f"the range is empty: low {self.low:g} is above high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, not at {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step")
        if self.kind == "int" and any(
            value is not None and value != int(value) for value in (self.low, self.high, self.step)
        ):
            raise ValueError("a range of whole numbers has whole low, high and step")
        return self


def _same(choices: tuple[Any, ...], at: int) -> bool:
    first = choices.index(choices[at])  # 1 and True are equal, and are two values
    return type(choices[first]) is type(choices[at])


class Goal(Frozen):
    """What is to be as large, or as small, as it can be: a metric of the training, or "seconds", "parameters", "latency_ms"."""

    metric: Annotated[str, Field(min_length=1, max_length=100)]
    direction: Literal["auto", "min", "max"] = "auto"

    @property
    def larger(self) -> bool:
        """Whether a larger value is the better one."""
        return self.direction == "max" or (self.direction == "auto" and self.metric.endswith(_MORE_IS_BETTER))


class Tune(Frozen):
    """Train a model with many settings on a dataset version, and keep the best."""

    data: str  # a dataset reference
    validation: str | None = None  # default, where a goal is measured on validation data: a fifth of `data`
    target: str | None = None  # overrides the dataset's
    train: dict[str, Any] = Field(default_factory=dict)  # fields of a train spec, such as framework, code, epochs
    built: bool = False  # the code of `train` is a function that makes a model of the settings
    space: Annotated[dict[Annotated[str, Field(min_length=1, max_length=200)], Dimension], Field(max_length=100)]
    goals: Annotated[tuple[Goal, ...], Field(min_length=1, max_length=4)] = (Goal(metric="val_loss"),)
    sampler: Literal["auto", "tpe", "gp", "random", "grid", "cmaes", "nsga2"] = "auto"
    pruner: Literal["none", "asha", "hyperband", "median"] = "none"
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    seconds: Annotated[Finite, Field(gt=0)] | None = None  # of all attempts; a trial that runs then is finished
    stop_at: Finite | None = None  # of the first goal: once it is met there is no other trial
    parallel: Annotated[int, Field(ge=1, le=256)] | None = None  # trials at once; None: by cores, memory, GPU
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    first: Annotated[tuple[dict[str, Any], ...], Field(max_length=100)] = ()  # settings that are tried first
    start: Annotated[tuple[str, ...], Field(max_length=20)] = ()  # tune Runs whose trials are known from the beginning


State = Literal["done", "pruned", "failed"]


class Trial(Frozen):
    """One trial that ended. `values`: of the goals, in their order; none of one that failed."""

    number: int
    state: State
    params: dict[str, Any]
    values: tuple[float, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)  # at its end
    curve: tuple[float, ...] = ()  # the goal after each epoch, where there is one goal
    epochs: int = 0
    seconds: float = 0.0
    error: str | None = None


class Kept(Frozen):
    """What is kept of a trial that is among the best: a train spec and its result."""

    spec: dict[str, Any]
    fitted: dict[str, Any]


class Tuned(Frozen):
    """The result of a tuning Run. `front`: trials that no other is better than in all goals; the best is one of them."""

    data: str
    validation: str | None
    goals: tuple[Goal, ...]
    space: dict[str, Dimension]
    best: int
    front: tuple[int, ...]
    trials: tuple[Trial, ...]
    importance: dict[str, float]  # how much of the goal's spread each setting explains; empty where too few trials tell
    kept: dict[str, Kept]  # by number: of each of the front
    seconds: float
    notes: tuple[str, ...] = ()
