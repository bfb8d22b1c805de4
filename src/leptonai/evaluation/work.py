"""What an evaluation Run does: predict every row, compare, report."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Run
from leptonai.core.refs import DatasetRef, share_rows
from leptonai.core.signature import Signature
from leptonai.core.stages import Handle, Reader
from leptonai.evaluation import comparing, fairness, several
from leptonai.evaluation.latency import of_one_row
from leptonai.evaluation.measuring import Answers, errors_of, finite_rows, report
from leptonai.evaluation.probes import Probed, Subject, outliers_of, probe
from leptonai.evaluation.probing import Sample
from leptonai.evaluation.published import Published
from leptonai.evaluation.spec import Evaluate
from leptonai.evaluation.subgroups import Watch
from leptonai.evaluation.truth import truth_of

Array = NDArray[Any]


class Answered(NamedTuple):
    """What rows are, what is said of them, by the subject and by another one (one part for each batch), and how long one row takes."""

    truth: Array
    scores: Array
    others: list[Array]
    latency: dict[str, float]
    probed: Probed


def evaluate(spec: Evaluate, handle: Handle) -> dict[str, Any]:
    """Measure a training Run, or a published version; return a `Report`."""
    reader = handle.data(spec.data)
    if not reader.rows:
        raise Invalid(f"{spec.data} has no rows to measure on")
    trained = _trained_run(spec, handle)
    if goals := (trained.result or {})["encoding"].get("goals"):
        return several.evaluate(spec, goals, trained.id, handle)
    notes = [*_seen(spec, trained), *fairness.learnt(trained)]
    with _subject(spec, handle) as subject, _other(spec, handle, notes) as other:
        looked = [column for column in reader.columns if spec.slices or column.name in spec.sensitive]
        watch = Watch(looked, subject.target, spec.sensitive)
        answered = _asked(spec, handle, reader, subject, other, watch, notes)
    answers = Answers(
        subject.task, subject.classes, subject.target, answered.truth, answered.scores, watch.levels(notes)
    )
    compared = {} if other is None else _compared(spec, answers, subject, other, answered.others, notes)
    found, details = report(spec, answers, notes)
    for note in found.notes:
        handle.say(note)
    details = details.model_copy(update=answered.probed.details)
    stored = handle.blobs.write([details.model_dump_json().encode()])
    return found.model_copy(
        update={"details": stored.id, "latency": answered.latency, "compared": compared, **answered.probed.report}
    ).model_dump(mode="json")


def _seen(spec: Evaluate, trained: Run) -> list[str]:
    """Say so where it is measured on rows that it learnt from."""
    learnt = trained.spec.get("data")
    if learnt is None or not share_rows(DatasetRef.parse(learnt), DatasetRef.parse(spec.data)):
        return []
    return [
        f"the model learnt from rows that are among these ({learnt}): of others it knows less than these figures say"
    ]


def _trained_run(spec: Evaluate, handle: Handle) -> Run:
    """Return the train Run: what is measured, or what the version was made of."""
    found = handle.get(spec.run or "")
    return found if spec.model is None else handle.get((found.result or {})["lineage"]["run"])


@contextmanager
def _subject(spec: Evaluate, handle: Handle) -> Iterator[Subject]:
    if spec.model is None:
        yield _trained(handle, handle.get(spec.run or "").id)
        return
    with _version(spec.model, spec.run or "", handle) as found:
        yield found


@contextmanager
def _other(spec: Evaluate, handle: Handle, notes: list[str]) -> Iterator[Subject | None]:
    """Open what it is compared with; where its framework is not that of this process, a note says so."""
    if spec.against is None or spec.against_run is None:
        yield None
        return
    result = handle.get(spec.against_run).result or {}
    needs = result["lineage"].get("flavour")
    if "model.onnx" not in result["files"] and needs != handle.run.flavour:
        notes.append(
            f"it is not compared with {spec.against}, which has no ONNX file and needs {needs}: this process has {handle.run.flavour}"
        )
        yield None
        return
    with _version(spec.against, spec.against_run, handle) as found:
        yield found


@contextmanager
def _version(ref: str, made_by: str, handle: Handle) -> Iterator[Subject]:
    result = handle.get(made_by).result or {}  # that of the export Run which made the version
    trained = result["lineage"]["run"]
    if "model.onnx" not in result["files"]:
        handle.say(f"{ref} has no ONNX file: its own framework is asked")
        yield _trained(handle, trained)
        return
    signature = Signature.of(result["signature"])
    with handle.blobs.open(result["files"]["model.onnx"]) as file:
        model = Published(file.read(), signature)
    try:
        columns = tuple(tensor.name for tensor in signature.inputs)
        target = _target(handle.get(trained))
        yield Subject(columns, target, signature.task, signature.classes, model.scores)
    finally:
        model.close()


def _target(trained: Run) -> str:
    return str((trained.result or {})["encoding"]["target"])


def _trained(handle: Handle, run: str) -> Subject:
    predictor = handle.model(run)
    encoding = predictor.fitted.encoding
    columns = tuple(feature.column for feature in encoding.features)
    return Subject(columns, encoding.target, encoding.task, encoding.classes, predictor.scores, predictor)


def _asked(
    spec: Evaluate,
    handle: Handle,
    reader: Reader,
    subject: Subject,
    other: Subject | None,
    watch: Watch,
    notes: list[str],
) -> Answered:
    more = (*(other.columns if other is not None else ()), *watch.names)
    wanted = tuple(dict.fromkeys((*subject.columns, subject.target, *more)))
    have = {column.name for column in reader.columns}
    if gone := [name for name in wanted if name not in have]:
        raise Invalid(
            f"{spec.data} has no column {gone[0]!r}, which the model {'predicts' if gone[0] == subject.target else 'needs'}",
            errors=[FieldError(name, f"missing in {spec.data}") for name in gone],
        )
    truth, scores, others, done = [], [], [], 0
    latency: dict[str, float] = {}
    sample = Sample(subject.columns, spec.seed) if spec.importance or spec.robustness or spec.explain else None
    far = outliers_of(spec, handle, reader, subject, notes) if spec.outliers else None
    target = next((column for column in reader.columns if column.name == subject.target), None)
    partly = target is not None and target.nullable and subject.target == reader.target
    for batch in reader.batches(spec.batch_size, columns=wanted):
        if partly:
            batch = _with_labels(batch, subject.target)
            if not len(batch[subject.target]):
                continue
        truth.append(truth_of(batch[subject.target], subject, spec.data))
        scores.append(np.asarray(subject.scores(batch)))
        watch.add(batch)
        if far is not None:
            far.add(batch)
        if sample is not None:
            sample.add(batch, truth[-1])
        if other is not None:
            others.append(np.asarray(other.scores(batch)))
        if not latency:
            latency = of_one_row(subject.scores, {name: batch[name] for name in subject.columns})
        done += len(truth[-1])
        handle.progress(done, reader.rows, "rows")
    if done < reader.rows:
        handle.say(f"{reader.rows - done:,} of the {reader.rows:,} rows of {spec.data} have no label, and are left out")
    if not done:
        raise Invalid(f"no row of {spec.data} has a label: there is nothing to measure on")
    probed = Probed() if sample is None else probe(spec, handle, reader, subject, sample, notes)
    said = np.concatenate(truth), np.concatenate(scores)
    return Answered(*said, others, latency, probed if far is None else probed.with_outliers(far, subject, *said))


def _compared(
    spec: Evaluate, answers: Answers, subject: Subject, other: Subject, others: list[Array], notes: list[str]
) -> dict[str, Any]:
    """Return the paired test of the two on the rows for which both give finite values; notes say why there is none."""
    scores = np.concatenate(others)
    if (other.task, other.target) != (subject.task, subject.target):
        notes.append(f"it is not compared with {spec.against}, which does {other.task} of {other.target!r}")
        return {}
    if sorted(map(str, other.classes)) != sorted(map(str, subject.classes)):
        notes.append(f"it is not compared with {spec.against}, which learnt other classes")
        return {}
    if subject.task == "classification":
        named = [str(name) for name in other.classes]
        scores = scores[:, [named.index(str(name)) for name in subject.classes]]
    own, theirs = errors_of(answers), errors_of(answers._replace(scores=scores))
    if own is None or theirs is None:
        notes.append(f"it is not compared with {spec.against}: a model gives several values a row")
        return {}
    both = finite_rows(answers.scores) & finite_rows(scores)
    if not both.any():
        notes.append(f"it is not compared with {spec.against}: no row has a finite value of both")
        return {}
    if subject.task == "classification":
        found = comparing.classifiers(own[both] == 0, theirs[both] == 0)
    else:
        found = comparing.regressors(own[both], theirs[both], spec.seed)
    return {"with": spec.against, **found}


def _with_labels(batch: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Return the rows of a batch that have a label: the others are for later."""
    kept = np.array([value is not None and value == value for value in np.asarray(batch[target]).tolist()], bool)
    return {name: values[kept] for name, values in batch.items()}
