"""What a Run does that looks for wrong labels: out-of-sample opinions of models, weighed by confident learning (cleanlab)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import MissingExtra
from leptonai.core.stages import FOLDS, Handle, load
from leptonai.labels.auto import calibrated, temperature
from leptonai.labels.spec import ErrorReport, LabelError, LabelErrors

Array = NDArray[Any]
_SHOWN = 1000  # that the result of the Run holds; the blob holds all


def find_errors(spec: LabelErrors, handle: Handle) -> dict[str, Any]:
    """Return how many labels are probably wrong, the worst of them, and the blob of an `ErrorReport` with all."""
    _library()
    judged = load(FOLDS)(spec.train, spec.folds, handle)
    found = errors(judged.rows, judged.labels, judged.scores, judged.classes)
    report = ErrorReport(
        data=spec.data,
        target=judged.target,
        rows=len(judged.labels),
        accuracy=float((judged.scores.argmax(axis=1) == judged.labels).mean()),
        errors=tuple(found),
    )
    handle.say(f"{len(found):,} of {len(judged.labels):,} labels are probably wrong")
    stored = handle.blobs.write([report.model_dump_json().encode()])
    shown = report.model_copy(update={"errors": report.errors[:_SHOWN]})
    return {**shown.model_dump(mode="json"), "found": len(found), "report": stored.id}


def errors(rows: Array, labels: Array, scores: Array, classes: Sequence[str | int]) -> list[LabelError]:
    """Return the labels that are probably wrong, the worst first.

    `labels`: int64 (rows,); `scores`: float32 (rows, classes), of models that did not learn from the row.
    """
    rank, filters = _library()
    present, compact = np.unique(labels, return_inverse=True)  # a class without a row says nothing
    if len(present) < 2:
        return []
    shares = scores[:, present] + np.float32(1e-9)
    shares = calibrated(shares / shares.sum(axis=1, keepdims=True), temperature(shares, compact))
    # Of digits with 89 wrong labels this way found 83 to 89 % (of what it found, 90 % were wrong), the default 73 to 80 %.
    issues = filters.find_label_issues(
        compact, shares, filter_by="prune_by_class", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    quality = rank.get_label_quality_scores(compact, shares)
    return [
        LabelError(
            row=int(rows[at]),
            given=classes[int(labels[at])],
            suggested=classes[int(present[shares[at].argmax()])],
            score=round(float(quality[at]), 6),
        )
        for at in issues.tolist()
    ]


def _library() -> tuple[Any, Any]:
    try:
        from cleanlab import filter as filters
        from cleanlab import rank
    except ImportError as error:
        raise MissingExtra("label errors are found by cleanlab:  pip install 'lepton-ai-sdk[labels]'") from error
    return rank, filters
