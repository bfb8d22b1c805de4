"""What an evaluation finds out by asking again, about a sample of the rows: what each column adds, and what becomes of changed rows."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from leptonai.core.stages import Handle, Predictor, Reader
from leptonai.evaluation import explaining
from leptonai.evaluation.measuring import Answers, errors_of
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
            report["robustness"] = found
    return Probed(report, details)


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
