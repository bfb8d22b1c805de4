"""What a cross-validation Run does: the report of every row by a model that did not learn from it, and each fold's metrics."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from leptonai.core.errors import Invalid
from leptonai.core.stages import CROSS, Handle, load
from leptonai.evaluation import measuring
from leptonai.evaluation.probes import Subject
from leptonai.evaluation.spec import CrossValidate, Evaluate
from leptonai.evaluation.subgroups import Watch
from leptonai.evaluation.truth import truth_of

_BATCH = 4096


def cross_validate(spec: CrossValidate, handle: Handle) -> dict[str, Any]:
    """Return a `Report` whose metrics are those of all rows, with those of each fold in `folds`."""
    more = {"curve": spec.curve, "noise": spec.noise, "tune": spec.tune}
    crossed = load(CROSS)(spec.train, spec.folds, spec.by, spec.column, handle, **more)
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
    points = {kind: tuple(_points(spec, answers, crossed, kind, each)) for kind in ("curve", "noise")}
    told = {"details": stored.id, "folds": tuple(each), "how": how, **points}
    return found.model_copy(update=told).model_dump(mode="json")


def _points(
    spec: CrossValidate, answers: measuring.Answers, crossed: Any, kind: str, each: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield what models of fewer rows, or of wrong labels, come to, beside the same folds as they are."""
    parts: dict[float, list[tuple[float, dict[str, float]]]] = {}
    for point in crossed.points:
        if point.kind == kind:
            part = answers._replace(truth=answers.truth[point.judged], scores=point.scores, columns=())
            plain = Evaluate(data=spec.data, positive=spec.positive, slices=False, resamples=0)
            try:
                found, _ = measuring.report(plain, part)
            except Invalid:  # no finite value: what did not learn has no point
                continue
            parts.setdefault(point.share, []).append((point.learnt_from, found.metrics))
    if not parts:
        return
    same = {point.fold + 1 for point in crossed.points if point.kind == kind}
    whole = [(float(one["learnt_from"]), one["metrics"]) for one in each if one["fold"] in same]
    parts[1.0 if kind == "curve" else 0.0] = whole
    for share in sorted(parts):
        rows, measured = zip(*parts[share], strict=True)
        names = [name for name in measured[0] if all(name in one for one in measured)]
        first = [one[names[0]] for one in measured]
        yield {
            "share": share,
            "rows": round(float(np.mean(rows))),
            "folds": len(rows),
            "metrics": {name: float(np.mean([one[name] for one in measured])) for name in names},
            "low": min(first),
            "high": max(first),
        }


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
        **crossed.settings.get(fold, {}),
    }


def _never(batch: Any) -> Any:
    raise NotImplementedError("the folds were asked already")
