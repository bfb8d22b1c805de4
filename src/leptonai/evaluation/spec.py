"""What you ask of the evaluation stage, and the report it answers with."""

from typing import Literal

from pydantic import Field

from leptonai.core.nouns import Frozen


class Evaluate(Frozen):
    """Measure what a training Run learnt (or a published model) on a dataset version, or on a part of one."""

    run: str | None = None  # a train Run
    model: str | None = None  # or a model reference: then the published version is measured
    data: str
    batch_size: int = Field(default=1024, ge=1)


class Report(Frozen):
    """How good a model is. Metrics are those of scikit-learn; averages over classes are macro averages."""

    task: Literal["classification", "regression"]
    rows: int
    metrics: dict[str, float]  # accuracy precision recall f1 roc_auc log_loss; mae rmse r2; loss where there is one
    classes: tuple[str | int, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()  # rows: truth, columns: prediction
    per_class: dict[str, dict[str, float]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()  # such as why a metric is not given
