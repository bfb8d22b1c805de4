"""Cross-validation: each fold of the rows is judged by a model that learnt from other rows, and from no statistic of the fold.

All folds share one process, so libraries are loaded once; how rows are encoded (means, categories) is fitted anew on the rows that each
model learns from. A fold that is done is kept as a checkpoint, so that an attempt that follows goes on after it.
"""

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ports import Learner
from leptonai.core.stages import Handle, Reader
from leptonai.training import trainee, within
from leptonai.training.encoder import column_names, encode
from leptonai.training.fewer import Mislabelled, fewer
from leptonai.training.folds import fold_numbers, learnt
from leptonai.training.labelled import Chosen
from leptonai.training.predictor import probabilities
from leptonai.training.spec import Encoding, Train
from leptonai.training.work import Subject, encoding_of, given, labelled, picked

Array = NDArray[Any]
By = Literal["auto", "rows", "class", "group", "time"]
POINTS = 3  # folds by which a point of a learning curve is told
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
    points: tuple["Point", ...] = ()
    settings: Mapping[int, Mapping[str, Any]] = {}  # by fold, where they were chosen: params, trials


class Point(NamedTuple):
    """What a model of fewer rows, or of wrong labels, said of a fold."""

    kind: str  # curve, noise
    share: float
    fold: int
    learnt_from: int
    judged: Array  # bool: of the rows that were judged, those of this fold
    scores: Array


def cross(
    train: Mapping[str, Any],
    folds: int,
    by: By,
    column: str | None,
    handle: Handle,
    *,
    curve: Sequence[float] = (),
    noise: Sequence[float] = (),
    tune: Mapping[str, Any] | None = None,
) -> Crossed:
    """Train a model for each fold and ask it. Raises `Invalid` where rows cannot be shared out so; a fold that fails is a note.

    `train`: a train spec, exact. `by`: how rows are shared out: evenly by seed, each class evenly, rows of one group together (`column`),
    or in the order of a time (`column`), where each fold is judged by a model of earlier rows only. `curve`: shares of a fold's rows that
    another model learns from, `noise`: shares of its labels that are made wrong, both for the last `POINTS` folds. `tune`: fields of a
    tune spec; then settings are chosen anew for each fold, within the rows that its model learns from.
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
    crossing = _Crossing(
        subject, reader, whole, by, column, places_of(reader, whole, folds, by, column, spec.seed), handle
    )
    done = _saved(handle)
    notes: list[str] = []
    last = range(max(0, folds - POINTS), folds)
    work = [("fold", 0.0, fold) for fold in range(folds)]
    work += [
        (kind, share, fold)
        for kind, shares in (("curve", curve), ("noise", noise))
        for share in shares
        for fold in last
    ]
    for number, (kind, share, fold) in enumerate(work):
        name = str(fold) if kind == "fold" else f"{kind}-{share:g}-{fold}"
        if name not in done:
            try:
                done[name] = crossing.model(kind, share, fold, tune)
            except Invalid as error:
                with_ = (
                    ""
                    if kind == "fold"
                    else f" with {share:.0%} of its {'rows' if kind == 'curve' else 'labels wrong'}"
                )
                notes.append(f"fold {fold + 1}{with_} is not judged: {error.message}")
                continue
            handle.save({f"{key}.npz": _packed(one) for key, one in done.items()})
        handle.progress(number + 1, len(work), "folds" if len(work) == folds else "models")
    folded = {int(name): one for name, one in done.items() if name.isdigit()}
    if not folded:
        raise Invalid(notes[0] if notes else f"{spec.data} has no fold to judge")
    crossed = _together(folded, reader, whole, notes)
    settings = {fold: json.loads(str(one["settings"])) for fold, one in folded.items() if "settings" in one}
    return crossed._replace(settings=settings, points=tuple(_points(done, crossed)))


class _Crossing(NamedTuple):
    """What all models of a cross-validation share."""

    subject: Subject
    reader: Reader
    whole: Encoding
    by: By
    column: str | None
    places: Array
    handle: Handle

    def model(self, kind: str, share: float, fold: int, tune: Mapping[str, Any] | None) -> dict[str, Array]:
        """Have a model learn for a fold, and keep what it says: rows, scores, took, settings. Raises `Invalid`."""
        began, seed, timed = time.perf_counter(), self.subject.spec.seed, self.by == "time"
        kept = (self.places >= 0) & (self.places < fold + 1) if timed else self.places != fold
        asked = self.places == (fold + 1 if timed else fold)
        if kind == "curve":
            kept = fewer(kept, share, seed, self.places if timed else None)
        learnt_from: Reader = Chosen(self.reader, kept)
        if kind == "noise":
            classes = self.whole.task == "classification"
            learnt_from = Mislabelled(learnt_from, self.whole.target, share, seed, classes=classes)
        subject, more = self.subject, {}
        if tune and kind == "fold":
            found = self._tuned(tune, learnt_from, fold)
            subject = given(found.train, self.handle) or subject
            more = {"settings": np.array(json.dumps({"params": found.params, "trials": found.trials}))}
        scores = fold_of(subject, learnt_from, Chosen(self.reader, asked), self.whole, self.handle)
        took = np.array([time.perf_counter() - began, kept.sum()])
        return {"rows": np.flatnonzero(asked), "scores": scores, "took": took, **more}

    def _tuned(self, tune: Mapping[str, Any], learnt_from: Reader, fold: int) -> within.Choice:
        timed = self.by == "time"
        places = places_of(learnt_from, self.whole, 4 if timed else 5, self.by, self.column, self.subject.spec.seed)
        rows, held_out = within.half(places, by_time=timed)
        asked = self.subject.spec, Chosen(learnt_from, rows), Chosen(learnt_from, held_out)
        found = within.tuned(tune, *asked, self.handle)
        self.handle.say(f"fold {fold + 1}: of {found.trials} trials the best has {found.params}")
        return found


def _points(done: Mapping[str, dict[str, Array]], crossed: Crossed) -> Iterator[Point]:
    for name, found in done.items():
        if not name.isdigit():
            kind, share, fold = name.rsplit("-", 2)
            judged = crossed.fold == int(fold)
            if judged.any():
                yield Point(kind, float(share), int(fold), int(found["took"][1]), judged, found["scores"])


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


def _saved(handle: Handle) -> dict[str, dict[str, Array]]:
    found: dict[str, dict[str, Array]] = {}
    for name, data in (handle.restore() or {}).items():
        with np.load(BytesIO(data), allow_pickle=False) as file:
            found[name.removesuffix(".npz")] = {part: file[part] for part in file.files}
    return found
