"""What a model says of rows that it did not learn from: each fold of the labelled rows is judged by a model of the others.

For stages that look at labels: which are wrong, which can be set by a model, which a person should set next.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.ahead import ahead
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Learner
from leptonai.core.stages import Handle, Reader, Shuffle
from leptonai.training import pretrained_work, trainee
from leptonai.training.checkpoint import Course
from leptonai.training.encoder import column_names, encode, targets
from leptonai.training.labelled import Chosen, Labelled, may_lack
from leptonai.training.one_fit import copies
from leptonai.training.predictor import probabilities
from leptonai.training.rates import Rates
from leptonai.training.rows import MEMORY, READY, Rows
from leptonai.training.spec import Encoding, Train
from leptonai.training.work import Subject, augmenter_of, begin, encoding_of, even_out, given, path_of, picked

Array = NDArray[Any]
_BATCH = 1024
_ALIKE = 3  # models of one kind that there are at least: what is known of how to compute one is worth so much more


class Judged(NamedTuple):
    """What was said. Rows are numbered from 0 in the version; probabilities are float32 (rows, classes)."""

    target: str
    classes: tuple[str | int, ...]
    rows: Array  # the labelled rows
    labels: Array  # int64: their classes by number
    scores: Array  # of each, by models that did not learn from it
    rest: Array  # the rows without a label
    rest_scores: Array  # the mean over the models of all folds
    inputs: Callable[[Array], Array]  # of some of these, by their places in `rest`: flat, float32


def judge(train: Mapping[str, Any], folds: int, handle: Handle) -> Judged:
    """Train `folds` models and ask them. Raises `Invalid` where there are too few labels, or too many rows for a model of one fit.

    Rows are read as a training reads them, so memory is bounded but for what is said of each: labels and a share of each class.

    `train`: a train spec, exact. A fold that is done is kept as a checkpoint, so that an attempt that follows goes on after it.
    """
    spec = Train.model_validate(train)
    random.seed(spec.seed)
    np.random.seed(spec.seed)
    first = given(spec, handle)
    whole = handle.data(spec.data)
    target = str(spec.target or whole.target or "")  # one: it was asked for so
    partly = may_lack(whole, target)
    reader: Reader = Labelled(whole, target) if partly else whole
    subject = first or picked(spec, reader, handle)
    traits = trainee.Traits.of(subject.learner)
    encoding = encoding_of(subject, reader, traits)
    _check(encoding, reader, folds, spec.data)
    y = targets(encoding, reader.read((target,)))
    rest = Labelled(whole, target, wanted=False) if partly else Chosen(whole, np.zeros(whole.rows, bool))
    numbers = reader.numbers if isinstance(reader, Labelled) else np.arange(len(y))
    scores, rest_scores = _folds(subject, encoding, reader, y, rest, folds, handle)
    return Judged(
        target, encoding.classes, numbers, y, scores, rest.numbers, rest_scores, partial(_inputs, rest, encoding)
    )


def _check(encoding: Encoding, reader: Reader, folds: int, where: str) -> None:
    if encoding.task != "classification":
        raise Invalid(
            f"the target {encoding.target!r} of {where} is a number: labels are judged where it is a category or a boolean",
            errors=[FieldError("target", "a category or a boolean")],
        )
    if reader.rows < 2 * folds:
        raise Invalid(
            f"{where} has {reader.rows} rows with a label, which are too few for {folds} folds: label more, or ask for fewer folds",
            errors=[FieldError("folds", f"at most {max(2, reader.rows // 2)}")],
        )


def _inputs(reader: Reader, encoding: Encoding, places: Array) -> Array:
    """Return what a model takes of the rows at these places: flat, float32 (rows, …)."""
    found: list[Array] = []
    wanted, at = np.sort(places), 0
    for x in _batches(reader, encoding):
        some = wanted[(wanted >= at) & (wanted < at + len(x))] - at
        found.append(np.ascontiguousarray(x[some]).reshape(len(some), math.prod(x.shape[1:])).astype(np.float32))
        at += len(x)
    whole: Array = np.concatenate(found)[np.argsort(np.argsort(places, kind="stable"), kind="stable")]
    return whole


def _batches(reader: Reader, encoding: Encoding) -> Iterator[Array]:
    names = column_names(encoding, target=False)
    return (encode(encoding, batch) for batch in reader.batches(_BATCH, columns=names))


def _folds(
    subject: Subject, encoding: Encoding, reader: Reader, y: Array, rest: Reader, folds: int, handle: Handle
) -> tuple[Array, Array]:
    classes = len(encoding.classes)
    scores = np.zeros((len(y), classes), np.float32)
    rest_scores = np.zeros((rest.rows, classes), np.float64)
    fold_of = fold_numbers(y, folds, subject.spec.seed)
    done = _saved(handle)
    for fold in range(folds):
        kept = fold_of != fold
        if fold not in done:
            learner = learnt(subject, encoding, Chosen(reader, kept), handle)
            held_out = _asked(learner, encoding, Chosen(reader, ~kept), classes)
            done[fold] = (held_out, _asked(learner, encoding, rest, classes))
            handle.save({f"{number}.npz": _packed(*found) for number, found in done.items()})
        scores[~kept] = done[fold][0]
        rest_scores += done[fold][1] / folds
        handle.progress(fold + 1, folds, "folds")
    return scores, rest_scores.astype(np.float32)


def fold_numbers(y: Array, folds: int, seed: int) -> Array:
    """Return the fold (int64) of each row: each class is shared evenly, by seed."""
    keys = np.random.PCG64(seed).random_raw(len(y))
    order = np.lexsort((keys, y))
    found = np.empty(len(y), np.int64)
    found[order] = np.arange(len(y)) % folds
    return found


def learnt(subject: Subject, encoding: Encoding, reader: Reader, handle: Handle) -> Learner:
    """Return a fresh model that learnt from the rows as a training lets it, augmentation and all."""
    spec, learner = subject.spec, subject.fresh()
    traits = trainee.Traits.of(learner)
    rows = Rows(reader, encoding, traits.entries)
    if not traits.incremental and not rows.held:
        raise Invalid(
            f"the {rows.count:,} rows that a model of one fit would learn from take about {rows.bytes / 2**30:.1f} GiB, and {MEMORY >> 30} "
            "GiB may be held: take fewer columns (features), fewer rows, or a model that learns in batches, of Keras or PyTorch",
            errors=[FieldError("data", f"at most {MEMORY >> 30} GiB of rows")],
        )
    even_out(spec, encoding, rows, handle)
    pretrained_work.give(learner, spec, encoding, handle)
    begin(learner, rows, encoding, spec)
    augmenter = augmenter_of(spec, encoding, reader, learner)
    if not traits.incremental:
        whole = rows.all() if augmenter is None else copies(spec, handle, rows, augmenter)
        for _ in range(traits.rounds or 1):
            learner.step(*whole)
        return learner
    trainee.take_path(learner, path_of(learner, rows, spec, handle, times=_ALIKE))
    shuffle = Shuffle(spec.seed, rows.window) if spec.shuffle else None
    course = Course(window=rows.window)
    rates = Rates(spec.learning.schedule, course, spec.epochs, rows.steps(spec.batch_size))
    for course.epoch in range(spec.epochs):
        trainee.thaw(learner, course.epoch)
        given = rows.batches(spec.batch_size, shuffle, course.epoch)
        given = given if augmenter is None else ahead(augmenter.batches(given, course.epoch, 0), READY)
        with closing(given) as batches:
            for course.batch, (x, y) in enumerate(batches):
                rates.set(learner)
                learner.step(x, y)
        # The fold is not looked at while its model learns: a plateau is one of the rows that it learns from.
        measured = learner.metrics()
        rates.look({**measured, **{f"val_{name}": value for name, value in measured.items()}})
    return learner


def _asked(learner: Learner, encoding: Encoding, reader: Reader, classes: int) -> Array:
    parts = [
        probabilities(np.asarray(learner.predict(x)), learner.activation, classes)
        for x in (_batches(reader, encoding) if reader.rows else ())
    ]
    return np.concatenate(parts) if parts else np.zeros((0, classes), np.float32)


def _packed(scores: Array, rest: Array) -> bytes:
    file = BytesIO()
    np.savez(file, scores=scores, rest=rest)
    return file.getvalue()


def _saved(handle: Handle) -> dict[int, tuple[Array, Array]]:
    found: dict[int, tuple[Array, Array]] = {}
    for name, data in (handle.restore() or {}).items():
        with np.load(BytesIO(data), allow_pickle=False) as file:
            found[int(name.removesuffix(".npz"))] = (file["scores"], file["rest"])
    return found
