"""What you ask of the stage that finds a model, and what it answers."""

from typing import Annotated, Any, Literal

from pydantic import Field

from leptonai.core.nouns import Frozen
from leptonai.tuning.spec import Finite, Kept

LEAST = 5.0  # seconds of a budget
SMALLER = ("log_loss", "brier", "ece", "mae", "rmse")  # metrics of which less is better


class Auto(Frozen):
    """Try kinds of models on a dataset version within a budget of time, and keep the best of them."""

    data: str  # a dataset reference
    test: str | None = None  # what the chosen model is measured on, once; default: a fifth of `data`
    target: str | None = None  # overrides the dataset's
    features: tuple[str, ...] | None = None  # default: all columns but the target
    kind: Literal["auto", "table", "text", "image", "ratings", "series"] = (
        "auto"  # of the problem; auto: by the columns
    )
    budget: Finite = Field(default=300.0, ge=0, le=30 * 86400)  # seconds, of all attempts
    metric: Annotated[str, Field(min_length=1, max_length=100)] | None = None  # default: roc_auc, accuracy or rmse
    folds: Annotated[int, Field(ge=2, le=20)] | None = None  # default: 5, fewer where the rows are many
    by: Literal["auto", "rows", "class", "group", "time"] = "auto"  # as of a cross-validation
    column: str | None = None  # of the groups, or of the time
    horizon: Annotated[int, Field(ge=1, le=100_000)] | None = None  # of a series: how many steps are told ahead
    families: Annotated[tuple[str, ...], Field(max_length=20)] = ()  # only these, and the baseline
    candidates: int = Field(default=40, ge=1, le=1000)  # at most so many are tried
    train: dict[str, Any] = Field(default_factory=dict)  # the training's spec; the server fills it in
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class Candidate(Frozen):
    """One line of the leaderboard. Scores are those of folds that the model did not learn from.

    done: all folds were judged · part: some were, for all would have taken more than its share of the budget · cut: none was, for the
    same reason · failed: it could not learn.
    """

    number: int
    name: str
    family: str
    words: str  # what it is
    settings: dict[str, Any] = Field(default_factory=dict)
    state: Literal["done", "part", "cut", "failed"]
    score: float | None = None  # the mean of `scores`; None where it was cut or failed
    scores: tuple[float, ...] = ()  # the metric of each fold that was judged
    metrics: dict[str, float] = Field(default_factory=dict)  # means over the folds
    seconds: float = 0.0  # what it cost, all folds together
    fit_seconds: float = 0.0  # of one fold
    error: str | None = None


class Found(Frozen):
    """The result of an auto Run: the leaderboard, the best first, and the model that was chosen by it."""

    data: str  # what was learnt from
    test: str | None
    target: str
    kind: str
    task: Literal["classification", "regression"]
    metric: str
    larger: bool  # whether more of it is better
    folds: int
    by: str
    rows: int
    leaderboard: tuple[Candidate, ...]
    chosen: int  # the number of a candidate
    tested: dict[str, Any] = Field(default_factory=dict)  # of the chosen one, once: rows, metrics, intervals
    kept: Kept
    seconds: float
    budget: float
    notes: tuple[str, ...] = ()
