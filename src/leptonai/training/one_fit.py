"""A training in one fit: a model that learns from all rows at once."""

import time
from contextlib import closing
from typing import Any

import numpy as np

from leptonai.core.ports import Learner
from leptonai.core.stages import Handle
from leptonai.training import mitigating, trainee
from leptonai.training.augment.apply import Augmenter
from leptonai.training.checkpoint import Course
from leptonai.training.rows import Rows
from leptonai.training.spec import Train

_AT_ONCE = 4096  # rows that are changed together


def all_at_once(
    spec: Train,
    handle: Handle,
    learner: Learner,
    rows: Rows,
    validation: Rows | None,
    course: Course,
    augmenter: Augmenter | None,
) -> None:
    """Fit, measure, and say so."""
    for name, given in (
        ("epochs", spec.epochs > 1 and augmenter is None),
        ("early_stopping", spec.early_stopping is not None),
    ):
        if given:
            handle.say(f"{name} is not used: a model of scikit-learn learns in one fit")
    began = time.perf_counter()
    handle.progress(0, 1, "fits")
    learner.step(*(rows.all() if augmenter is None else copies(spec, handle, rows, augmenter)))
    for note in trainee.notes(learner):
        handle.say(note)
    metrics = dict(learner.metrics()) | mitigating.told(spec, learner, rows)
    if validation is not None:
        learner.measure(*validation.all())
        metrics |= {
            f"val_{name}": value
            for name, value in {**learner.metrics(), **mitigating.told(spec, learner, validation)}.items()
        }
    course.seconds, course.epoch = time.perf_counter() - began, 1
    course.history, course.times = {name: [value] for name, value in metrics.items()}, [time.time()]
    handle.log(1, **{name: value for name, value in metrics.items() if np.isfinite(value)})
    handle.say("fitted: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    handle.progress(1, 1, "fits")


def copies(spec: Train, handle: Handle, rows: Rows, augmenter: Augmenter) -> tuple[Any, Any]:
    """Return the rows as they are, and a changed copy of them for each epoch, for a model that learns in one fit."""
    parts = [rows.all()]
    for epoch in range(spec.epochs):
        with closing(rows.batches(_AT_ONCE)) as batches:
            parts += augmenter.batches(batches, epoch, 0)
    handle.say(f"learns from the rows and from {spec.epochs} changed {'copies' if spec.epochs > 1 else 'copy'} of them")
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)
