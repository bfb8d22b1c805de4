"""The evaluation of a model that predicts several targets: a report of each, and their metrics side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.several import fields
from leptonai.core.signature import Signature
from leptonai.core.stages import Handle
from leptonai.evaluation.latency import of_one_row
from leptonai.evaluation.measuring import Answers, report
from leptonai.evaluation.probes import Subject
from leptonai.evaluation.published import Published
from leptonai.evaluation.spec import Evaluate, Report
from leptonai.evaluation.subgroups import Watch
from leptonai.evaluation.truth import truth_of

Array = NDArray[Any]
Scores = Callable[[Mapping[str, Any]], dict[str, Array]]  # by target


def evaluate(spec: Evaluate, goals: Sequence[Mapping[str, Any]], trained: str, handle: Handle) -> dict[str, Any]:
    """Return a `Report` with one for each target; the metric m of target t is ``t_m``. `trained`: the train Run."""
    reader = handle.data(spec.data)
    names = [str(goal["column"]) for goal in goals]
    with _scores(spec, trained, names, handle) as (columns, scores):
        subjects = [
            Subject(columns, str(goal["column"]), goal["task"], tuple(goal["classes"]), scores) for goal in goals
        ]
        looked = [column for column in reader.columns if column.name not in names]
        watch = Watch([c for c in looked if spec.slices or c.name in spec.sensitive], names[0], spec.sensitive)
        wanted = tuple(dict.fromkeys((*columns, *names, *watch.names)))
        if gone := [name for name in wanted if name not in {column.name for column in reader.columns}]:
            raise Invalid(
                f"{spec.data} has no column {gone[0]!r}, which the model {'predicts' if gone[0] in names else 'needs'}",
                errors=[FieldError(name, f"missing in {spec.data}") for name in gone],
            )
        truth: dict[str, list[Array]] = {name: [] for name in names}
        said: dict[str, list[Array]] = {name: [] for name in names}
        latency: dict[str, float] = {}
        done = 0
        for batch in reader.batches(spec.batch_size, columns=wanted):
            found = scores(batch)
            for subject in subjects:
                truth[subject.target].append(truth_of(batch[subject.target], subject, spec.data))
                said[subject.target].append(found[subject.target])
            watch.add(batch)
            latency = latency or of_one_row(scores, {name: batch[name] for name in columns})
            done += len(batch[names[0]])
            handle.progress(done, reader.rows, "rows")
    notes: list[str] = []
    levels = watch.levels(notes)
    each = {}
    for subject in subjects:
        name = subject.target
        answers = Answers(
            subject.task, subject.classes, name, np.concatenate(truth[name]), np.concatenate(said[name]), levels
        )
        one, details = report(spec, answers)
        stored = handle.blobs.write([details.model_dump_json().encode()])
        each[name] = one.model_copy(update={"details": stored.id})
        for note in one.notes:
            handle.say(f"{name}: {note}")
    return _together(each, spec, done, latency, notes).model_dump(mode="json")


def _together(
    each: Mapping[str, Report], spec: Evaluate, rows: int, latency: dict[str, float], notes: Sequence[str]
) -> Report:
    return Report(
        task="several",
        rows=rows,
        metrics={f"{name}_{metric}": value for name, one in each.items() for metric, value in one.metrics.items()},
        intervals={f"{name}_{metric}": ends for name, one in each.items() for metric, ends in one.intervals.items()},
        notes=(*notes, *(f"{name}: {note}" for name, one in each.items() for note in one.notes)),
        data=spec.data,
        target=", ".join(each),
        how={"resamples": spec.resamples, "confidence": spec.confidence, "seed": spec.seed},
        latency=latency,
        targets=dict(each),
    )


@contextmanager
def _scores(
    spec: Evaluate, trained: str, names: Sequence[str], handle: Handle
) -> Iterator[tuple[tuple[str, ...], Scores]]:
    """Open what is measured: give the columns that it needs, and what says the scores of each target."""
    made = {} if spec.model is None else handle.get(spec.run or "").result or {}  # of the export Run
    if "model.onnx" not in made.get("files", {}):
        if spec.model is not None:
            handle.say(f"{spec.model} has no ONNX file: its own framework is asked")
        predictor = handle.model(trained)
        columns = tuple(feature.column for feature in predictor.fitted.encoding.features)
        yield columns, lambda batch: fields(predictor.scores(batch))
        return
    signature = Signature.of(made["signature"])
    with handle.blobs.open(made["files"]["model.onnx"]) as file:
        model = Published(file.read(), signature)
    outputs = dict(zip(names, _last_outputs(signature), strict=True))

    def scores(batch: Mapping[str, Any]) -> dict[str, Array]:
        found = model.outputs(batch, tuple(outputs.values()))
        return {name: found[output] for name, output in outputs.items()}

    try:
        yield tuple(tensor.name for tensor in signature.inputs), scores
    finally:
        model.close()


def _last_outputs(signature: Signature) -> list[str]:
    """Return, for each target in order, the output with its scores: of classes the probabilities, which follow the label."""
    return [spec.name for spec in signature.outputs if not spec.categories or len(spec.shape) > 1]
