"""What you ask of the evaluation stage, and the report it answers with."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from leptonai.core.nouns import Frozen

Cost = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(gt=0, lt=1)]
CURVE = (0.1, 0.2, 0.4, 0.7)  # shares of the rows, beside all of them
NOISE = (0.05, 0.1, 0.2, 0.4)  # shares of the labels


def _or(default: tuple[float, ...]) -> BeforeValidator:
    """For shares: true means these, false means none."""
    return BeforeValidator(lambda given: default if given is True else () if given is False else given)


class Evaluate(Frozen):
    """Measure what a training Run learnt (or a published model) on a dataset version, or on a part of one."""

    run: str | None = None  # a train Run
    model: str | None = None  # or a model reference: then the published version is measured
    data: str
    batch_size: int = Field(default=1024, ge=1)
    costs: dict[Literal["fp", "fn"], Cost] | None = None  # of a false alarm and of a miss: a threshold is chosen
    positive: str | int | bool | None = None  # the class that is looked for, of two; default: the second
    slices: bool = True  # look for the subgroups of rows where it is worst
    sensitive: tuple[str, ...] = ()  # columns whose groups are to be treated alike
    importance: bool = False  # which columns it needs: by how much it errs more when one is shuffled
    robustness: bool = False  # how much spoilt rows cost it: noise, missing values, blur and more, by severity
    explain: bool = False  # what each column adds to its answers; of pictures and texts, where it looks
    outliers: bool = False  # which rows are far from what it learnt from, and how good it is there
    learnt_from: str | None = None  # the data that it learnt from; the server fills it in
    against: str | None = None  # a model reference: is that version better, on the same rows?
    against_run: str | None = None  # the export Run that made it; the server fills it in
    resamples: int = Field(default=1000, ge=0, le=10_000)  # of the bootstrap; below 2: no intervals
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**32)


class Explain(Frozen):
    """Tell why a published version says what it says of single rows: what each column adds, or where in a picture or text it looks."""

    model: str | None = None  # a model reference
    service: str | None = None  # or the name that it answers under
    rows: str  # the blob of a JSON list of rows, as a service takes them: at most 100; they lie sealed
    data: str | None = None  # whose rows stand for what is not known; default: what it learnt from
    gradients: bool = (
        False  # of pictures and texts: by the gradients of the trained weights (Captum), not by hiding parts
    )
    run: str | None = None  # the export Run that made the version; the server fills it in
    seed: int = Field(default=0, ge=0, lt=2**32)


class CrossValidate(Frozen):
    """Train a model for each fold of the rows and judge the fold with it: how good a model of this kind is on rows it has not seen.

    `by`: rows are shared out evenly ("rows"), each class evenly ("class"; "auto" where there are classes), with the rows of one
    value of `column` together ("group"), or in the order of `column`, where each fold is judged by a model of earlier rows ("time").
    """

    data: str
    folds: int = Field(default=5, ge=2, le=100)
    by: Literal["auto", "rows", "class", "group", "time"] = "auto"
    column: str | None = None  # of the groups, or of the time
    target: str | tuple[str, ...] | None = None  # one: several are refused in words
    run: str | None = None  # a train Run: learn as it did
    train: dict[str, Any] = Field(default_factory=dict)  # fields of a train spec; the server makes it whole
    curve: Annotated[
        tuple[Share, ...], _or(CURVE), Field(max_length=20)
    ] = ()  # of the rows: how good is it with fewer?
    noise: Annotated[
        tuple[Share, ...], _or(NOISE), Field(max_length=20)
    ] = ()  # of the labels: and where they are wrong?
    tune: dict[str, Any] = Field(
        default_factory=dict
    )  # of a tune spec, such as space: settings are chosen anew in each fold
    costs: dict[Literal["fp", "fn"], Cost] | None = None
    positive: str | int | bool | None = None
    slices: bool = True
    resamples: int = Field(default=1000, ge=0, le=10_000)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**31)


class Report(Frozen):
    """How good a model is. Metrics are those of scikit-learn; averages over classes are macro averages."""

    task: Literal["classification", "regression", "several"]
    rows: int
    metrics: dict[str, float]  # accuracy precision recall f1 roc_auc log_loss; mae rmse r2; loss where there is one
    classes: tuple[str | int, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()  # rows: truth, columns: prediction
    per_class: dict[str, dict[str, float]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()  # such as why a metric is not given
    data: str = ""  # the exact reference of what it was measured on
    target: str = ""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)  # of each metric, by bootstrap
    how: dict[str, Any] = Field(default_factory=dict)  # resamples, confidence, seed, positive: what it was asked with
    threshold: dict[str, Any] = Field(default_factory=dict)  # the one chosen by cost, with what it comes to
    slices: dict[str, Any] = Field(
        default_factory=dict
    )  # metric, tested, found, worst: its value in the worst subgroup
    fairness: dict[str, dict[str, float]] = Field(
        default_factory=dict
    )  # sensitive column -> accuracy_difference, parity_difference, odds_difference; mae_difference
    importance: tuple[dict[str, Any], ...] = ()  # column, importance, spread: the most important first
    explanation: dict[str, Any] = Field(
        default_factory=dict
    )  # method, rows, columns: of each the mean size of its share
    outliers: dict[str, Any] = Field(
        default_factory=dict
    )  # beyond: rows; share, expected, p; fifths by distance: value
    robustness: dict[str, Any] = Field(default_factory=dict)  # metric, rows, clean, worst, told: way, severity, value
    latency: dict[str, float] = Field(default_factory=dict)  # p50, p99 of one row, milliseconds; rows
    compared: dict[str, Any] = Field(default_factory=dict)  # with: a reference; own, other, p of being worse
    folds: tuple[
        dict[str, Any], ...
    ] = ()  # of a cross-validation: fold, rows, learnt_from, seconds, metrics, notes, params
    curve: tuple[
        dict[str, Any], ...
    ] = ()  # of fewer rows: share, rows, folds, metrics (means), low, high (of the first metric)
    noise: tuple[dict[str, Any], ...] = ()  # of wrong labels: the same
    left_out: int = 0  # rows for which the model gives no finite value
    details: str | None = None  # the sealed blob of the `Details`
    targets: dict[str, "Report"] = Field(default_factory=dict)  # of several targets each; `metrics` are TARGET_METRIC


class Details(Frozen):
    """What a page shows beside the metrics. It lies sealed, because it holds values of the dataset."""

    slices: tuple[dict[str, Any], ...] = ()  # where, rows, metric, value, rest, difference, p, q: the worst first
    groups: tuple[dict[str, Any], ...] = ()  # of sensitive columns: column, group, rows, accuracy, rates
    examples: tuple[dict[str, Any], ...] = ()  # pictures or texts, with where it looks
    farthest: tuple[
        dict[str, Any], ...
    ] = ()  # rows far from what was learnt from: row, distance, share, unusual columns
    curves: dict[str, Any] = Field(default_factory=dict)  # roc, precision_recall, calibration, thresholds; residuals
