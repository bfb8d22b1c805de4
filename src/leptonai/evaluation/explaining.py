"""Why a model says what it says: of tables what each column adds, of pictures and texts where it looks; of one row, and of many."""

import base64
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import MissingExtra
from leptonai.core.signature import FeatureType
from leptonai.evaluation import places
from leptonai.evaluation.shapley import BACKGROUND, Scores, shares

Array = NDArray[Any]
ROWS = 200  # of a report, of which the mean is told
SECONDS = 20.0  # that they may take
EXAMPLES = 8  # pictures or texts that a report shows
_WIDE = 112  # pixels that a small picture is drawn in
Kind = Literal["table", "picture", "text"]
Looks = Callable[[Mapping[str, Any], Sequence[int] | None], Any]  # `Predictor.attributed`


class Subject(NamedTuple):
    """Who is asked, and what it answers: probabilities of classes, or values (no classes)."""

    scores: Scores
    classes: tuple[str | int, ...]
    types: Mapping[str, FeatureType | None]  # of its columns
    looks: Looks | None = None  # where it looks, by gradients; None: parts are hidden

    @property
    def kind(self) -> Kind:
        """What its rows are: one picture, one text, or a table."""
        found = list(self.types.values())
        if found == [FeatureType.IMAGE]:
            return "picture"
        return "text" if found == [FeatureType.TEXT] else "table"


def rows(
    subject: Subject, given: Mapping[str, Array], background: Mapping[str, Array], seed: int
) -> list[dict[str, Any]]:
    """Explain each of these rows: what is said of it, with which score, and what each part adds to that score."""
    said, score = _said(subject, given)
    if subject.kind == "table":
        found = shares(subject.scores, given, background, said, seed)
        each = [
            {"base": float(base), "method": _method(found.exact), "shares": _sorted(found.columns, values)}
            for base, values in zip(found.base, found.values, strict=True)
        ]
    else:
        each = [_looked(subject, {n: v[at : at + 1] for n, v in given.items()}, said, at) for at in range(len(score))]
    words = [None] * len(score) if said is None else [str(subject.classes[number]) for number in said]
    return [
        {"of": word, "score": float(one), **more} for word, one, more in zip(words, score, each, strict=True)
    ]  # fmt: skip


def summary(
    subject: Subject, given: Mapping[str, Array], truth: Array, seed: int, notes: list[str]
) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """Return what a report says of many rows, and the examples that its page shows; `truth`: class numbers, or values."""
    said, score = _said(subject, given)
    order = np.random.default_rng(seed).permutation(len(truth))
    order = order[np.isfinite(score[order])]
    if not len(order):
        notes.append("explanations are not told: the answers are no numbers")
        return {}, ()
    if subject.kind != "table":
        return _examples(subject, given, truth, order, notes)
    some: Mapping[str, Array] = {name: values[order[BACKGROUND : BACKGROUND + ROWS]] for name, values in given.items()}
    if not len(some[next(iter(some))]):  # so few that they are their own background
        some = {name: values[order] for name, values in given.items()}
    said, _ = _said(subject, some)
    known = {name: values[order[:BACKGROUND]] for name, values in given.items()}
    found = shares(subject.scores, some, known, said, seed, SECONDS)
    told = found.values[np.isfinite(found.values).all(axis=1)]
    if not len(told):
        notes.append("explanations are not told: without a column's value the answers are no numbers")
        return {}, ()
    size = np.abs(told).mean(0)
    lines = [{"column": found.columns[at], "share": float(size[at])} for at in np.argsort(-size, kind="stable")]
    about = {"method": _method(found.exact), "rows": len(told), "background": len(known[found.columns[0]])}
    return {**about, "columns": lines}, ()


def _method(exact: bool) -> str:
    return "Shapley values" if exact else "Shapley values, sampled"


def _said(subject: Subject, given: Mapping[str, Array]) -> tuple[Array | None, Array]:
    """Return the class that is said of each row (None where the answer is a value), and its score."""
    scores = np.asarray(subject.scores(given), dtype=np.float64)
    flat = scores.reshape(len(scores), -1)
    if not subject.classes:
        return None, flat[:, 0]
    said = flat.argmax(1)
    return said, flat.max(1)


def _sorted(columns: Sequence[str], values: Array) -> list[dict[str, Any]]:
    order = np.argsort(-np.abs(values), kind="stable")
    return [{"column": columns[at], "share": float(values[at])} for at in order]


def _looked(subject: Subject, row: Mapping[str, Array], said: Array | None, at: int) -> dict[str, Any]:
    """Return where it looks in one picture or text: by gradients where they can be had, else by hiding parts."""
    (column,) = subject.types
    of = None if said is None else [int(said[at])]
    found = None if subject.looks is None else subject.looks(row, of)
    number = 0 if of is None else of[0]
    if subject.kind == "text":
        text = str(row[column][0] or "")
        spans = places.of_text(subject.scores, row, column, number) if found is None else found[0]
        method = "words left out" if found is None else "integrated gradients"
        return {"method": method, "words": [{"word": text[a:b], "start": a, "share": share} for a, b, share in spans]}
    maps = (
        {"hidden squares": places.of_picture(subject.scores, row, column, number)}
        if found is None
        else {way: found_[0] for way, found_ in found.items()}
    )
    image = row[column][0]
    return {
        "method": ", ".join(maps),
        "image": _png(_grey_or_colour(image)),
        "maps": {way: _png(_heated(image, map_)) for way, map_ in maps.items()},
        "where": {way: _coarse(map_) for way, map_ in maps.items()},
    }


def _examples(
    subject: Subject, given: Mapping[str, Array], truth: Array, order: Array, notes: list[str]
) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    said, score = _said(subject, given)
    chosen = order[:EXAMPLES]
    if said is not None:  # half of them the gravest errors
        wrong = order[said[order] != truth[order]]
        gravest = wrong[np.argsort(-score[wrong], kind="stable")][: EXAMPLES // 2]
        right = order[said[order] == truth[order]][: EXAMPLES - len(gravest)]
        chosen = np.concatenate([gravest, right]).astype(np.int64)
    found = []
    for at in chosen:
        row = {name: values[at : at + 1] for name, values in given.items()}
        try:
            looked = _looked(subject, row, said, int(at))
        except MissingExtra as missing:
            notes.append(f"{missing.message}; until then, parts are hidden")
            subject = subject._replace(looks=None)
            looked = _looked(subject, row, said, int(at))
        word = None if said is None else str(subject.classes[said[at]])
        true = float(truth[at].reshape(-1)[0]) if said is None else str(subject.classes[truth[at]])
        found.append({"truth": true, "of": word, "score": float(score[at]), **looked})
    method = found[0]["method"] if found else ""
    return {"method": method, "rows": len(found), "columns": []}, tuple(found)


def _coarse(map_: Array) -> list[list[float]]:
    """Return a map as at most `places.SIDE` squares a side, each the mean of what lies in it."""
    parts = [np.array_split(band, min(places.SIDE, band.shape[1]), axis=1) for band in _bands(map_)]
    return [[round(float(part.mean()), 6) for part in row] for row in parts]


def _bands(map_: Array) -> list[Array]:
    return np.array_split(map_, min(places.SIDE, len(map_)), axis=0)


def _grey_or_colour(image: Array) -> Array:
    """Return a picture as (height, width, 3) uint8."""
    wide = image if image.dtype == np.uint8 else np.clip(255 * np.asarray(image, np.float64), 0, 255).astype(np.uint8)
    return np.repeat(wide, 3, axis=2) if wide.shape[2] == 1 else wide[:, :, :3]


def _heated(image: Array, map_: Array) -> Array:
    """Return the picture in grey under a map: red is for the class, blue against it."""
    from PIL import Image

    height, width = image.shape[:2]
    most = float(np.abs(map_).max()) or 1.0
    small = Image.fromarray((map_ / most).astype(np.float32))
    heat = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))[:, :, None]
    grey = 255 - (255 - _grey_or_colour(image).mean(axis=2, keepdims=True)) * 0.5
    colour = np.where(heat > 0, np.array([200, 30, 20]), np.array([30, 80, 200]))
    strength = np.abs(heat) ** 0.7
    return np.asarray(np.clip(grey * (1 - strength) + colour * strength, 0, 255), np.uint8)


def _png(image: Array) -> str:
    """Return a picture as the address of itself, drawn large enough to be seen."""
    from PIL import Image

    made = Image.fromarray(np.ascontiguousarray(image))
    times = max(1, _WIDE // max(made.size))
    if times > 1:
        made = made.resize((made.width * times, made.height * times), Image.Resampling.NEAREST)
    elif max(made.size) > 2 * _WIDE:
        made.thumbnail((2 * _WIDE, 2 * _WIDE))
    file = BytesIO()
    made.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
