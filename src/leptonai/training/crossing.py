"""Cross-validation: each fold of the rows is judged by a model that learnt from other rows, and from no statistic of the fold.

All folds share one process, so libraries are loaded once; how rows are encoded (means, categories) is fitted anew on the rows that each
model learns from. A fold that is done is kept as a checkpoint, so that an attempt that follows goes on after it.
"""

import random
import time
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Learner
from leptonai.core.stages import Handle, Reader
from leptonai.training import trainee
from leptonai.training.encoder import column_names, encode
from leptonai.training.folds import fold_numbers, learnt
from leptonai.training.labelled import Chosen
from leptonai.training.predictor import probabilities
from leptonai.training.spec import Encoding, Train
from leptonai.training.work import Subject, encoding_of, given, labelled, picked

Array = NDArray[Any]
By = Literal["auto", "rows", "class", "group", "time"]
_BATCH = 1024


class Crossed(NamedTuple):
    """What was said of rows by models that did not learn from them, in the order of the dataset."""

    task: str
    classes: tuple[str | int, ...]
    reader: Reader  # the rows that were judged, and their columns
    target: str
    scores: Array  # (rows, classes), or values; float32
    fold: Array  # int64 (rows,): which fold judged each
    seconds: dict[int, float]  # that a fold took
    learnt_from: dict[int, int]  # rows
    notes: tuple[str, ...]


def cross(train: Mapping[str, Any], folds: int, by: By, column: str | None, handle: Handle) -> Crossed:
    """Train a model for each fold and ask it. Raises `Invalid` where rows cannot be shared out so; a fold that fails is a note.

    `train`: a train spec, exact. `by`: how rows are shared out: evenly by seed, each class evenly, rows of one group together (`column`),
    or in the order of a time (`column`), where each fold is judged by a model of earlier rows only.
    """
    spec = Train.model_validate(train)
    random.seed(spec.seed)
    np.random.seed(spec.seed)
    own = given(spec, handle)
    reader = labelled(spec, handle.data(spec.data), spec.data, handle)
    subject = own or picked(spec, reader, handle)
    whole = encoding_of(subject, reader, trainee.Traits.of(subject.learner))
    if reader.rows < 2 * folds:
        raise Invalid(
            f"{spec.data} has {reader.rows} rows, too few for {folds} folds: ask for fewer",
            errors=[FieldError("folds", f"at most {max(2, reader.rows // 2)}")],
        )
    places = places_of(reader, whole, folds, by, column, spec.seed)
    done = _saved(handle)
    notes: list[str] = []
    for fold in range(folds):
        if fold not in done:
            began = time.perf_counter()
            kept = (places >= 0) & (places < fold + 1) if by == "time" else places != fold
            asked = places == (fold + 1 if by == "time" else fold)
            try:
                scores = fold_of(subject, Chosen(reader, kept), Chosen(reader, asked), whole, handle)
            except Invalid as error:
                notes.append(f"fold {fold + 1} is not judged: {error.message}")
                continue
            done[fold] = {
                "rows": np.flatnonzero(asked),
                "scores": scores,
                "took": np.array([time.perf_counter() - began, kept.sum()]),
            }
            handle.save({f"{number}.npz": _packed(found) for number, found in done.items()})
        handle.progress(fold + 1, folds, "folds")
    if not done:
        raise Invalid(notes[0] if notes else f"{spec.data} has no fold to judge")
    return _together(done, reader, whole, notes)


def _together(done: dict[int, dict[str, Array]], reader: Reader, whole: Encoding, notes: list[str]) -> Crossed:
    rows = np.concatenate([found["rows"] for found in done.values()])
    scores = np.concatenate([found["scores"] for found in done.values()])
    fold = np.concatenate([np.full(len(found["rows"]), number) for number, found in done.items()])
    order = np.argsort(rows, kind="stable")
    judged = np.zeros(reader.rows, bool)
    judged[rows] = True
    return Crossed(
        whole.task,
        whole.classes,
        Chosen(reader, judged),
        whole.target,
        scores[order],
        fold[order],
        {number: float(found["took"][0]) for number, found in done.items()},
        {number: int(found["took"][1]) for number, found in done.items()},
        tuple(notes),
    )


def fold_of(subject: Subject, kept: Reader, asked: Reader, whole: Encoding, handle: Handle) -> Array:
    """Have a model learn from the rows that are kept, and return what it says of those that are asked, float32."""
    traits = trainee.Traits.of(subject.learner)
    encoding = encoding_of(subject, kept, traits).model_copy(update={"classes": whole.classes})
    return asked_of(learnt(subject, encoding, kept, handle), encoding, asked)


def asked_of(learner: Learner, encoding: Encoding, reader: Reader) -> Array:
    """Return what a model says of all rows, float32: probabilities (rows, classes), or values."""
    names = column_names(encoding, target=False)
    parts = []
    for batch in reader.batches(_BATCH, columns=names):
        raw = np.asarray(learner.predict(encode(encoding, batch)))
        if encoding.task == "classification":
            raw = probabilities(raw, learner.activation, len(encoding.classes))
        parts.append(raw.astype(np.float32))
    return np.concatenate(parts)


def places_of(reader: Reader, encoding: Encoding, folds: int, by: By, column: str | None, seed: int) -> Array:
    """Return the fold of each row (int64); by time, the place of its block from 0, the first of which is only learnt from."""
    if by in ("group", "time"):
        if column is None or column not in {one.name for one in reader.columns}:
            right = f"one of {', '.join(one.name for one in reader.columns[:30])}"
            raise Invalid(
                f"by={by!r} needs column, the name of a column: {right}", errors=[FieldError("column", right)]
            )
        values = np.asarray(reader.read((column,))[column])
        return by_group(values, folds, seed) if by == "group" else by_time(values, folds, column)
    if by == "class" and encoding.task != "classification":
        raise Invalid(
            f"by='class': the target {encoding.target!r} is a number; use by='rows'", errors=[FieldError("by", "rows")]
        )
    if encoding.task == "classification" and by != "rows":
        target = np.asarray(reader.read((encoding.target,))[encoding.target])
        return fold_numbers(np.unique(target.astype(str), return_inverse=True)[1], folds, seed)
    return fold_numbers(np.zeros(reader.rows, np.int64), folds, seed)


def by_group(values: Array, folds: int, seed: int) -> Array:
    """Return folds (int64) of about equal size in which no value is in two: large groups first, each into the smallest fold."""
    _, group = np.unique(values.astype(str), return_inverse=True)
    sizes = np.bincount(group)
    if len(sizes) < folds:
        raise Invalid(
            f"by='group': there are {len(sizes)} groups, too few for {folds} folds",
            errors=[FieldError("folds", f"at most {len(sizes)}")],
        )
    keys = np.random.default_rng(seed).random(len(sizes))
    filled, place = np.zeros(folds, np.int64), np.empty(len(sizes), np.int64)
    for number in np.lexsort((keys, -sizes)):
        place[number] = int(filled.argmin())
        filled[place[number]] += sizes[number]
    return np.asarray(place[group])


def by_time(values: Array, folds: int, column: str) -> Array:
    """Return blocks (int64) in the order of the values, one more than folds; rows of the same time are in the same block."""
    if values.dtype == object:
        raise Invalid(
            f"by='time': column {column!r} is neither a number nor a time",
            errors=[FieldError("column", "a number or a time")],
        )
    times = values.astype("datetime64[us]").astype(np.int64) if values.dtype.kind == "M" else values.astype(np.float64)
    if not np.isfinite(times).all():
        raise Invalid(
            f"by='time': column {column!r} is empty in some rows", errors=[FieldError("column", "a value in each row")]
        )
    ordered = np.sort(times)
    edges = np.unique(ordered[[len(ordered) * number // (folds + 1) for number in range(1, folds + 1)]])
    place = np.searchsorted(edges, times, side="right")
    if len(np.unique(place)) < folds + 1:
        raise Invalid(
            f"by='time': column {column!r} has too few different times for {folds} folds",
            errors=[FieldError("folds", "fewer")],
        )
    return np.asarray(place)


def _packed(found: Mapping[str, Array]) -> bytes:
    file = BytesIO()
    np.savez(file, **found)  # type: ignore[arg-type]
    return file.getvalue()


def _saved(handle: Handle) -> dict[int, dict[str, Array]]:
    found: dict[int, dict[str, Array]] = {}
    for name, data in (handle.restore() or {}).items():
        with np.load(BytesIO(data), allow_pickle=False) as file:
            found[int(name.removesuffix(".npz"))] = {part: file[part] for part in ("rows", "scores", "took")}
    return found
