"""What a cross-validation Run does: the report of every row by a model that did not learn from it, and each fold's metrics."""

from typing import Any

import numpy as np

from leptonai.core.stages import CROSS, Handle, load
from leptonai.evaluation import measuring
from leptonai.evaluation.probes import Subject
from leptonai.evaluation.spec import CrossValidate, Evaluate
from leptonai.evaluation.subgroups import Watch
from leptonai.evaluation.truth import truth_of

_BATCH = 4096


def cross_validate(spec: CrossValidate, handle: Handle) -> dict[str, Any]:
    """Return a `Report` whose metrics are those of all rows, with those of each fold in `folds`."""
    crossed = load(CROSS)(spec.train, spec.folds, spec.by, spec.column, handle)
    subject = Subject((), crossed.target, crossed.task, crossed.classes, _never)
    watch = Watch(crossed.reader.columns if spec.slices else (), crossed.target)
    parts = []
    for batch in crossed.reader.batches(_BATCH, columns=tuple(dict.fromkeys((crossed.target, *watch.names)))):
        parts.append(truth_of(batch[crossed.target], subject, spec.data))
        watch.add(batch)
    truth, notes = np.concatenate(parts), list(crossed.notes)
    answers = measuring.Answers(
        crossed.task, crossed.classes, crossed.target, truth, crossed.scores, watch.levels(notes)
    )
    asked = Evaluate(
        data=spec.data, costs=spec.costs, positive=spec.positive, slices=spec.slices, resamples=spec.resamples,
        confidence=spec.confidence, seed=spec.seed,
    )  # fmt: skip
    found, details = measuring.report(asked, answers, notes)
    each = [_fold(spec, answers, crossed, fold) for fold in sorted(crossed.seconds)]
    for one in each:
        handle.log(one["fold"], **one["metrics"])
    stored = handle.blobs.write([details.model_dump_json().encode()])
    how = {**found.how, "folds": spec.folds, "by": spec.by, "column": spec.column}
    return found.model_copy(update={"details": stored.id, "folds": tuple(each), "how": how}).model_dump(mode="json")


def _fold(spec: CrossValidate, answers: measuring.Answers, crossed: Any, fold: int) -> dict[str, Any]:
    rows = crossed.fold == fold
    part = answers._replace(truth=answers.truth[rows], scores=answers.scores[rows], columns=())
    plain = Evaluate(data=spec.data, positive=spec.positive, slices=False, resamples=0)
    found, _ = measuring.report(plain, part)
    return {
        "fold": fold + 1,
        "rows": int(rows.sum()),
        "learnt_from": crossed.learnt_from[fold],
        "seconds": crossed.seconds[fold],
        "metrics": found.metrics,
        "notes": found.notes,
    }


def _never(batch: Any) -> Any:
    raise NotImplementedError("the folds were asked already")
