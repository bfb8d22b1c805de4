"""What an evaluation finds out by asking again, about a sample of the rows: what each column adds, and what becomes of changed rows."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import LeptonError
from leptonai.core.stages import Handle, Predictor, Reader, Shuffle
from leptonai.evaluation import explaining
from leptonai.evaluation.attacks import attacks
from leptonai.evaluation.measuring import Answers, errors_of, finite_rows
from leptonai.evaluation.outliers import FITTED, Outliers
from leptonai.evaluation.probing import Asked, Sample, importance, robustness
from leptonai.evaluation.spec import Evaluate

Array = NDArray[Any]


class Subject(NamedTuple):
    """What is measured: what it is asked with, what it answers, and what it should have answered."""

    columns: tuple[str, ...]
    target: str
    task: str
    classes: tuple[str | int, ...]
    scores: Callable[[Mapping[str, Any]], Any]
    predictor: Predictor | None = None  # where its own framework is asked: that may have gradients


class Probed(NamedTuple):
    """What a report, and its details, say of it."""

    report: Mapping[str, Any] = {}
    details: Mapping[str, Any] = {}

    def with_outliers(self, far: Outliers, subject: Subject, truth: Array, scores: Array) -> "Probed":
        """Add what is said of rows that are far from what was learnt from."""
        classes = subject.task == "classification"
        errors = errors_of(Answers(subject.task, subject.classes, subject.target, truth, scores))
        if errors is not None and not (good := finite_rows(scores)).all():
            errors = np.where(good, errors, max(1.0, float(errors[good].max(initial=0.0))))
        found = far.found(errors, "accuracy" if classes else "mae")
        return Probed({**self.report, "outliers": found.report}, {**self.details, "farthest": found.rows})


def probe(spec: Evaluate, handle: Handle, reader: Reader, subject: Subject, sample: Sample, notes: list[str]) -> Probed:
    """Find out what was asked for; notes say what could not be."""

    def errors(truth: Array, scores: Array) -> Array | None:
        return errors_of(Answers(subject.task, subject.classes, subject.target, truth, scores))

    asked = Asked(sample, subject.scores, errors)
    count = f"{len(sample.truth):,} rows"
    report: dict[str, Any] = {}
    details: dict[str, Any] = {}
    if spec.importance:
        handle.say(f"which columns it needs is told from {count}")
        report["importance"] = importance(asked, spec.seed, notes)
    if spec.explain:
        handle.say(f"what each column adds is told from {count}")
        report["explanation"], details["examples"] = _explained(spec, reader, subject, sample, notes)
    if spec.robustness:
        handle.say(f"what spoilt rows cost it is told from {count}")
        if found := _robust(spec, reader, subject, asked, notes):
            report["robustness"] = {**found, **attacked(reader, subject, asked, notes)}
    return Probed(report, details)


def outliers_of(spec: Evaluate, handle: Handle, reader: Reader, subject: Subject, notes: list[str]) -> Outliers | None:
    """Fit what tells how far rows are, on rows that the model learnt from; a note says why there is none."""
    if spec.learnt_from is None:
        notes.append("outliers are not told: the data that the model learnt from is gone")
        return None
    kinds = {column.name: column for column in reader.columns}
    try:
        known = handle.data(spec.learnt_from)
        shuffle = Shuffle(spec.seed, known.window(subject.columns))
        batch = next(iter(known.batches(FITTED, columns=subject.columns, shuffle=shuffle)), None)
        if batch is None:
            raise ValueError("there are no rows")
        return Outliers([kinds[name] for name in subject.columns], batch, spec.seed)
    except (ValueError, LeptonError) as error:
        notes.append(f"outliers are not told: {spec.learnt_from}, which the model learnt from, does not tell: {error}")
        return None


def _explained(
    spec: Evaluate, reader: Reader, subject: Subject, sample: Sample, notes: list[str]
) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    types = {column.name: column.type for column in reader.columns}
    looks = None if subject.predictor is None else subject.predictor.attributed
    classes = subject.classes if subject.task == "classification" else ()
    about = explaining.Subject(subject.scores, classes, {name: types[name] for name in subject.columns}, looks)
    return explaining.summary(about, sample.rows, sample.truth, spec.seed, notes)


def _robust(spec: Evaluate, reader: Reader, subject: Subject, asked: Asked, notes: list[str]) -> dict[str, Any]:
    whole, told = robustness(asked, reader.columns, spec.seed, notes)
    classes = subject.task == "classification"
    values = [1 - one["error"] if classes else one["error"] for one in told]
    if whole is None or not told:
        return {}
    return {
        "metric": "accuracy" if classes else "mae",
        "rows": len(asked.sample.truth),
        "clean": 1 - whole if classes else whole,
        "worst": min(values) if classes else max(values),
        "told": [
            {"way": one["way"], "severity": one["severity"], "value": value}
            for one, value in zip(told, values, strict=True)
        ],
    }


def attacked(reader: Reader, subject: Subject, asked: Asked, notes: list[str]) -> dict[str, Any]:
    """Return what attacks cost it: each by severity, and the worst value."""
    columns = [column for column in reader.columns if column.name in subject.columns]
    told = attacks(asked, columns, subject.predictor, notes)
    if not told:
        return {}
    classes = subject.task == "classification"
    lines = [
        {
            "way": one["way"],
            "severity": one["severity"],
            "size": one["size"],
            "value": 1 - one["error"] if classes else one["error"],
        }
        for one in told
    ]
    values = [one["value"] for one in lines]
    return {"attacks": lines, "worst_attacked": min(values) if classes else max(values)}
