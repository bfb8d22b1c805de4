"""A report of predictions: point metrics, intervals, curves and a threshold; what cannot be told is a note, and the rest is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.evaluation import curves, fairness, intervals, metrics, slices
from leptonai.evaluation.spec import Details, Evaluate, Report
from leptonai.evaluation.subgroups import Levels

Array = NDArray[Any]


class Answers(NamedTuple):
    """What a model said of rows, and what was true. `truth`: class numbers (rows,), or values; `scores`: (rows, classes), or values."""

    task: str
    classes: tuple[str | int, ...]
    target: str
    truth: Array
    scores: Array
    columns: tuple[Levels, ...] = ()  # what subgroups are told from


def report(spec: Evaluate, answers: Answers, known: Sequence[str] = ()) -> tuple[Report, Details]:
    """Return the report and what a page shows beside it; `known`: notes that there are already. Raises `Invalid` when the model gives no finite value at all."""
    kept, notes = _finite(answers)
    notes += known
    how: dict[str, Any] = {"resamples": spec.resamples, "confidence": spec.confidence, "seed": spec.seed}
    if answers.task == "classification":
        found, shown = _classes(spec, kept, how, notes)
    else:
        found, shown = _values(spec, kept, notes)
    left_out = len(answers.truth) - len(kept.truth)
    more: dict[str, Any] = {"data": spec.data, "target": answers.target, "how": how, "left_out": left_out}
    worst: tuple[dict[str, Any], ...] = ()
    groups: tuple[dict[str, Any], ...] = ()
    if spec.slices:
        more["slices"], worst = _slices(kept, found, notes)
    if spec.sensitive:
        more["fairness"], groups = _fairness(spec, kept, how, notes)
    details = Details(curves=shown, slices=worst, groups=groups)
    return found.model_copy(update=more | {"notes": (*notes, *found.notes)}), details


def _fairness(
    spec: Evaluate, answers: Answers, how: dict[str, Any], notes: list[str]
) -> tuple[dict[str, dict[str, float]], tuple[dict[str, Any], ...]]:
    if errors_of(answers) is None:
        notes.append("fairness is not told: the model gives several values a row")
        return {}, ()
    if answers.task == "classification":
        truth, said = answers.truth, answers.scores.argmax(1)
        positive = None if how["positive"] is None else answers.classes.index(how["positive"])
    else:
        (truth, said), positive = metrics.side_by_side(answers.truth, answers.scores), None
    return fairness.of_columns(spec.sensitive, answers.columns, truth, said, positive, notes)


def _finite(answers: Answers) -> tuple[Answers, list[str]]:
    good = finite_rows(answers.scores)
    bad = int(len(good) - good.sum())
    if not bad:
        return answers, []
    if bad == len(good):
        metrics.finite(answers.scores)  # raises
    note = (
        f"the model gives values that are not finite for {bad:,} of {len(good):,} rows: they are left out of every figure, so "
        "the model is worse than these say"
    )
    columns = tuple(column._replace(codes=column.codes[good]) for column in answers.columns)
    return answers._replace(truth=answers.truth[good], scores=answers.scores[good], columns=columns), [note]


def finite_rows(scores: Array) -> Array:
    """Return which rows have finite values only, bool (rows,)."""
    return np.asarray(np.isfinite(scores.reshape(len(scores), -1)).all(axis=1))


def errors_of(answers: Answers) -> Array | None:
    """Return the error of each row, float64: 1 for a wrong class, the distance of a value; None where a row has several values."""
    if answers.task == "classification":
        return np.asarray(answers.scores.argmax(1) != answers.truth, np.float64)
    if answers.truth.size != len(answers.truth) or answers.scores.size != len(answers.truth):
        return None
    y, p = metrics.side_by_side(answers.truth, answers.scores)
    found: Array = np.abs(y - p)
    return found


def _slices(answers: Answers, found: Report, notes: list[str]) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    errors = errors_of(answers)
    if errors is None or not answers.columns:
        why = (
            "the model gives several values a row"
            if errors is None
            else "there is no column of numbers, categories, booleans or dates"
        )
        notes.append(f"subgroups are not looked at: {why}")
        return {}, ()
    classes = answers.task == "classification"
    search = slices.find(slices.search_of(errors, exact=classes), answers.columns, notes)
    metric = "accuracy" if classes else "mae"
    lines = tuple(
        {
            "where": one["where"],
            "rows": one["rows"],
            "metric": metric,
            "value": 1 - one["error"] if classes else one["error"],
            "rest": 1 - one["rest"] if classes else one["rest"],
            "difference": -one["difference"] if classes else one["difference"],
            "p": one["p"],
            "q": one["q"],
        }
        for one in search["found"]
    )
    values = [line["value"] for line in lines] or [found.metrics[metric]]
    return {
        "metric": metric,
        "tested": search["tested"],
        "least_rows": search["least_rows"],
        "level": search["level"],
        "found": len(lines),
        "worst": min(values) if classes else max(values),  # of all rows, where no subgroup is worse than the rest
    }, lines


def _classes(
    spec: Evaluate, answers: Answers, how: dict[str, Any], notes: list[str]
) -> tuple[Report, dict[str, Any]]:  # fmt: skip
    truth, scores, classes = answers.truth, answers.scores, answers.classes
    positive = _positive(spec, classes, notes)
    how["positive"] = classes[positive] if len(classes) == 2 else None
    found = metrics.classification(truth, scores, classes, positive)
    if np.ptp(scores.argmax(1)) == 0:
        notes.append(f"the model says {classes[int(scores[0].argmax())]!r} of every row")
    probabilities = metrics.probabilities(scores)
    losses = {} if probabilities is None else metrics.losses(truth, probabilities, positive)
    asked = metrics.curves_of(truth, len(classes), positive) if "roc_auc" in found.metrics else []
    statistic = intervals.of_classes(truth, scores if probabilities is None else probabilities, losses, asked)
    shown: dict[str, Any] = {}
    if probabilities is not None:
        shown = curves.of_classes(truth, probabilities, classes, positive)
        found.metrics["ece"] = shown["calibration"]["ece"]
    update: dict[str, Any] = {"intervals": _intervals(spec, statistic, found.metrics, len(truth), notes)}
    if spec.costs is not None:
        update["threshold"] = _threshold(spec.costs, truth, probabilities, classes, positive, notes)
    return found.model_copy(update=update), shown


def _positive(spec: Evaluate, classes: Sequence[str | int], notes: list[str]) -> int:
    if spec.positive is None:
        return len(classes) - 1 if len(classes) == 2 else 0
    named = [str(name) for name in classes]
    if len(classes) != 2 or str(spec.positive) not in named:
        which = f"one of {', '.join(named[:20])}" if len(classes) == 2 else f"there are {len(classes)} classes, not two"
        notes.append(f"positive={spec.positive!r} has no meaning here: {which}")
        return len(classes) - 1 if len(classes) == 2 else 0
    return named.index(str(spec.positive))


def _threshold(
    costs: Any, truth: Array, probabilities: Array | None, classes: Sequence[str | int], positive: int, notes: list[str]
) -> dict[str, Any]:
    why = None
    if len(classes) != 2:
        why = f"costs of false alarms and misses are for two classes, and there are {len(classes)}"
    elif probabilities is None:
        why = "the model's scores are not probabilities"
    elif len(np.unique(truth)) < 2:
        why = f"all rows are of class {classes[int(truth[0])]!r}"
    if why is not None or probabilities is None:
        notes.append(f"no threshold is chosen: {why}")
        return {}
    return curves.chosen(curves.Ranked(truth == positive, probabilities[:, positive]), costs, classes[positive])


def _values(spec: Evaluate, answers: Answers, notes: list[str]) -> tuple[Report, dict[str, Any]]:
    found = metrics.regression(answers.truth, answers.scores)
    if spec.costs is not None:
        notes.append(
            "no threshold is chosen: costs of false alarms and misses are for two classes, and this model gives numbers"
        )
    if spec.positive is not None:
        notes.append(f"positive={spec.positive!r} has no meaning here: the model gives numbers")
    y, p = metrics.side_by_side(answers.truth, answers.scores)
    if len(y) and np.ptp(p) == 0:
        notes.append(f"the model says {p[0]:.6g} of every row")
    flat = answers.truth.size == answers.scores.size == len(answers.truth)
    given: dict[str, tuple[float, float]] = {}
    if flat:
        given = _intervals(spec, intervals.of_values(y, p), found.metrics, len(y), notes)
    elif spec.resamples:
        notes.append("intervals are not given: the model gives several values a row")
    return found.model_copy(update={"intervals": given}), curves.of_values(y, p, spec.seed)


def _intervals(
    spec: Evaluate, statistic: Any, measured: dict[str, float], rows: int, notes: list[str]
) -> dict[str, tuple[float, float]]:
    given = intervals.intervals(
        statistic, measured, rows, resamples=spec.resamples, confidence=spec.confidence, seed=spec.seed
    )
    lacking = [name for name in measured if name not in given and name != "ece"]
    if spec.resamples and lacking:
        notes.append(f"no interval is given for {', '.join(lacking)}: too many resamples have none")
    return given
