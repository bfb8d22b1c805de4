"""Rows as series: which column is the time, which one names the series, how far ahead is told, and which steps are told in each fold."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core import plugins
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.stages import Reader
from leptonai.training.encoder import column_names, encode, width
from leptonai.training.spec import Encoding

Array = NDArray[Any]
_FOLDS = 5
_TENTH = 10  # of the steps are told ahead, at most, where nobody says how many
_LEAST = 8  # steps that the first fold learns from


class Line(NamedTuple):
    """What is found. Windows lie one after the other at the end: each is told by a model of all that was before."""

    features: tuple[str, ...]  # the time, what names the series, and what is known ahead
    windows: Array  # (rows,) int64: 0 before them, then from 1 on; the last one is the test, where none was given
    folds: int
    settings: dict[str, Any]  # of each candidate
    notes: tuple[str, ...]


def line_of(reader: Reader, encoding: Encoding, asked: Mapping[str, Any], where: str) -> Line:
    """Look at the times. Raises `Invalid` that names the row, where they have no common step, and where they are too few."""
    x = encode(encoding, reader.read(column_names(encoding, target=False)))
    starts = np.cumsum([0, *map(width, encoding.features)])[:-1].tolist()
    time = next(place for place, feature in enumerate(encoding.features) if feature.op == "moment")
    column = encoding.features[time].column
    if (empty := ~np.isfinite(x[:, starts[time]])).any():
        row = int(empty.argmax())
        raise Invalid(
            f"row {row} of {where} has no time in column {column!r}: fill it in, or leave the row out",
            errors=[FieldError(column, "a time in each row")],
        )
    named, grid = _named(x, starts, time, encoding, where)
    if asked["features"] is None:
        chosen = [time, *([named] if named is not None else [])]
    else:
        chosen = list(range(len(encoding.features)))
    tests = int(asked["test"] is None)
    horizon = int(asked["horizon"] or max(1, min(grid.ahead, grid.length // _TENTH)))
    room = (grid.length - max(horizon, _LEAST)) // horizon - tests
    folds = int(asked["folds"] or min(_FOLDS, room))
    if folds < 2 or folds > room:
        most = (grid.length - _LEAST) // (max(2, int(asked["folds"] or 2)) + 1 + tests)
        right = f"at most {most}" if most >= 1 else "more rows"
        raise Invalid(
            f"{where} has {grid.length} steps of {grid.step}, too few to tell {horizon} ahead in {max(2, folds)} folds"
            f"{' and a test' * tests}: horizon {right}",
            errors=[FieldError("horizon", right)],
        )
    windows = np.maximum(0, grid.place - (grid.length - (folds + tests) * horizon) + horizon) // horizon
    if empty_ones := [number for number in range(folds + tests + 1) if not (windows == number).any()]:
        raise Invalid(
            f"{where} has no row in window {empty_ones[0]} of {folds + tests}, of {horizon} steps of {grid.step} each: the horizon is to be longer",
            errors=[FieldError("horizon", f"more than {horizon}")],
        )
    gap = int(np.diff(np.unique(grid.place)).max(initial=1)) - 1  # where the last steps before a window are not there
    order = [encoding.features[place].column for place in chosen]
    known = [place for place in chosen if place not in (time, named)]
    starts = dict(
        zip(chosen, np.cumsum([0, *(width(encoding.features[place]) for place in chosen)])[:-1].tolist(), strict=True)
    )
    settings = {
        "time": starts[time], "name": -1 if named is None else starts[named], "horizon": horizon + gap, "known": [starts[place] for place in known],
    }  # fmt: skip
    return Line(tuple(order), windows, folds, settings, _notes(grid, horizon, encoding, named, tests))


def _named(x: Array, starts: list[int], time: int, encoding: Encoding, where: str) -> tuple[int | None, Any]:
    """Return the feature that names the series, None where there is one series; and the grid of their steps."""
    first: Invalid | None = None
    words = [place for place, feature in enumerate(encoding.features) if feature.op == "index"]
    for place in (None, *words):
        try:
            return place, _grid(x, starts[time], -1 if place is None else starts[place])
        except ValueError as error:
            first = first or _unfit(encoding.features[time].column, where, str(error), words)
            if "the same time" not in str(error):
                column = encoding.features[time].column
                raise _unfit(column, where, str(error), words) from None
    assert first is not None  # noqa: S101  one was tried
    raise first


def _grid(x: Array, time: int, name: int) -> Any:
    framework: Any = plugins.framework("sklearn")
    return framework.estimator("Grid", {"x": x, "time": time, "name": name})


def _unfit(column: str, where: str, words: str, named: list[int]) -> Invalid:
    more = "" if named or "the same time" not in words else "; where there are several series, name them by a category"
    return Invalid(
        f"the times in column {column!r} of {where} are no series: {words}{more}",
        errors=[FieldError(column, "even steps, each once in a series")],
    )


def _notes(grid: Any, horizon: int, encoding: Encoding, named: int | None, tests: int) -> tuple[str, ...]:
    rows, series = len(grid.place), len(np.unique(grid.series))
    found = [f"{horizon} steps of {grid.step} are told ahead"]
    if named is not None:
        found[0] += f", for {series} series by {encoding.features[named].column!r}"
    spans = sum(
        int(places.max() - places.min()) + 1
        for places in (grid.place[grid.series == one] for one in np.unique(grid.series))
    )
    if spans > rows:
        found.append(
            f"{spans - rows:,} of {spans:,} steps are not there: each was put on the line between those beside it"
        )
    if tests:
        found.append(
            "after the test the model learnt from its rows too: it tells what comes after the last time of the data"
        )
    return tuple(found)
