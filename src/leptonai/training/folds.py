"""What a model says of rows that it did not learn from: each fold of the labelled rows is judged by a model of the others.

For stages that look at labels: which are wrong, which can be set by a model, which a person should set next.
"""

import math
import random
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Learner
from leptonai.core.stages import Handle, Reader
from leptonai.training import trainee
from leptonai.training.labelled import Labelled, may_lack
from leptonai.training.predictor import probabilities
from leptonai.training.rows import MEMORY, Rows
from leptonai.training.spec import Encoding, Train
from leptonai.training.work import Subject, encoding_of, given, picked

Array = NDArray[Any]
_BATCH = 1024


class Judged(NamedTuple):
    """What was said. Rows are numbered from 0 in the version; probabilities are float32 (rows, classes)."""

    target: str
    classes: tuple[str | int, ...]
    rows: Array  # the labelled rows
    labels: Array  # int64: their classes by number
    scores: Array  # of each, by models that did not learn from it
    rest: Array  # the rows without a label
    rest_scores: Array  # the mean over the models of all folds
    rest_x: Array  # their inputs, flat, float32


def judge(train: Mapping[str, Any], folds: int, handle: Handle) -> Judged:
    """Train `folds` models and ask them. Raises `Invalid` where there are too few labels, or too many rows for memory.

    `train`: a train spec, exact. A fold that is done is kept as a checkpoint, so that an attempt that follows goes on after it.
    """
    spec = Train.model_validate(train)
    random.seed(spec.seed)
    np.random.seed(spec.seed)
    first = given(spec, handle)
    whole = handle.data(spec.data)
    target = spec.target or whole.target or ""
    partly = may_lack(whole, target)
    reader: Reader = Labelled(whole, target) if partly else whole
    subject = first or picked(spec, reader, handle)
    traits = trainee.Traits.of(subject.learner)
    encoding = encoding_of(subject, reader, traits)
    _check(encoding, reader, folds, spec.data)
    x, y = _held(Rows(reader, encoding, traits.entries), spec.data)
    rest = Labelled(whole, target, wanted=False) if partly else None
    rest_x = _inputs(rest, encoding) if rest is not None and rest.rows else x[:0]
    numbers = reader.numbers if isinstance(reader, Labelled) else np.arange(len(y))
    scores, rest_scores = _folds(subject, encoding, x, y, rest_x, folds, handle)
    flat = np.ascontiguousarray(rest_x).reshape(len(rest_x), math.prod(rest_x.shape[1:])).astype(np.float32)
    return Judged(
        target, encoding.classes, numbers, y, scores, rest.numbers if rest is not None else numbers[:0], rest_scores, flat
    )  # fmt: skip


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


def _held(rows: Rows, where: str) -> tuple[Array, Array]:
    if not rows.held:
        raise Invalid(f"{where} takes more than {MEMORY >> 30} GiB of memory: judge labels on a smaller version of it")
    return rows.all()


def _inputs(reader: Reader, encoding: Encoding) -> Array:
    from leptonai.training.encoder import column_names, encode

    names = column_names(encoding, target=False)
    return np.concatenate([encode(encoding, batch) for batch in reader.batches(_BATCH, columns=names)])


def _folds(
    subject: Subject, encoding: Encoding, x: Array, y: Array, rest: Array, folds: int, handle: Handle
) -> tuple[Array, Array]:
    classes, spec = len(encoding.classes), subject.spec
    scores = np.zeros((len(y), classes), np.float32)
    rest_scores = np.zeros((len(rest), classes), np.float64)
    fold_of = fold_numbers(y, folds, spec.seed)
    done = _saved(handle)
    for fold in range(folds):
        kept = fold_of != fold
        if fold not in done:
            learner = _learnt(subject, encoding, x[kept], y[kept])
            done[fold] = (_asked(learner, x[~kept], classes), _asked(learner, rest, classes))
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


def _learnt(subject: Subject, encoding: Encoding, x: Array, y: Array) -> Learner:
    spec = subject.spec
    learner = subject.fresh()
    order = np.random.default_rng(spec.seed).permutation(len(y))
    learner.begin(
        x[order[: spec.batch_size]], y[order[: spec.batch_size]], encoding.task, len(encoding.classes), spec.seed
    )
    if not trainee.Traits.of(learner).incremental:
        learner.step(x, y)
        return learner
    for epoch in range(spec.epochs):
        order = np.random.default_rng([spec.seed, epoch]).permutation(len(y))
        for at in range(0, len(y), spec.batch_size):
            rows = order[at : at + spec.batch_size]
            learner.step(x.take(rows, axis=0), y.take(rows))
    return learner


def _asked(learner: Learner, x: Array, classes: int) -> Array:
    parts = [
        probabilities(np.asarray(learner.predict(x[at : at + _BATCH])), learner.activation, classes)
        for at in range(0, len(x), _BATCH)
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
