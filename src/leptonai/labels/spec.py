"""What you ask of the stage that looks at labels, and what it answers."""

from typing import Annotated, Any, Literal

from pydantic import Field

from leptonai.core.nouns import Frozen


class Judging(Frozen):
    """A dataset version, and the model whose opinion is asked, which is trained anew on each fold."""

    data: str  # a whole version
    target: str | None = None  # overrides the dataset's
    run: str | None = None  # a train Run whose model and settings are used; None: a sensible model is picked
    train: dict[str, Any] = Field(default_factory=dict)  # fields of a train spec on top, such as features or epochs
    folds: int = Field(default=5, ge=2, le=20)


class LabelErrors(Judging):
    """Find labels that are probably wrong, by confident learning (Northcutt and others 2021)."""


class AutoLabel(Judging):
    """Set the labels that a model is sure of, so that the share `precision` of them is right, as measured on held-out labels."""

    precision: float = Field(default=0.95, gt=0, lt=1)


class PickRows(Judging):
    """Pick the rows without a label that a person should label next: where the model doubts, and far from each other."""

    count: int = Field(default=20, ge=1, le=10_000)
    by: Literal["margin", "entropy"] = "margin"


class LabelError(Frozen):
    """One label that is probably wrong. `score`: how likely the given one is, from 0 to 1."""

    row: int  # in the version, from 0
    given: str | int
    suggested: str | int
    score: float


class ErrorReport(Frozen):
    """The labels that are probably wrong, the worst first."""

    data: str
    target: str
    rows: int  # that were looked at
    accuracy: float  # of the models, on rows they did not learn from
    errors: tuple[LabelError, ...]


class Assigned(Frozen):
    """Labels that were set, by row of the version: what a `relabel` Run writes into the next one."""

    target: str
    rows: tuple[int, ...]
    labels: tuple[str | int, ...]


Share = Annotated[float, Field(ge=0, le=1)]


class AutoReport(Frozen):
    """What came of labelling by a model."""

    data: str
    target: str
    labelled: int  # rows that had a label
    rest: int  # rows that had none
    set: int  # of those, now labelled
    coverage: Share  # set / rest
    threshold: float  # the least calibrated confidence; above 1: none was sure enough
    temperature: float  # by which scores were made calibrated
    asked: Share  # the precision that was asked for
    precision: Share | None  # on held-out labels above the threshold
    held_out: int  # how many those are
    lower: Share | None  # the bound below which the true precision is with a chance of 5 %
