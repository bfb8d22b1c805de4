"""What each column adds to one answer: Shapley values of the columns as people have them, for any model that can be asked.

A column that is "not known" has the value of a background row; what a column adds is the mean, over the orders in which columns may
become known and over the background, of what the score gains at its turn (Štrumbelj & Kononenko, KAIS 41, 2014; the interventional
SHAP of Lundberg & Lee, NeurIPS 2017). The shares of a row add up to its score less the mean score of the background.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Scores = Callable[[Mapping[str, Any]], Any]
BACKGROUND = 64  # rows that stand for what is not known
EXACT = 6  # columns of which every subset is asked; of more, orders are drawn
_AT_ONCE, _BYTES = 4096, 2**26  # rows that the model is asked at once, and what they may take


class Shares(NamedTuple):
    """Of each row that was explained: what each column adds, (rows, columns); the score, and that of the background, (rows,)."""

    columns: tuple[str, ...]
    values: Array
    score: Array
    base: Array
    exact: bool


def shares(
    scores: Scores,
    rows: Mapping[str, Array],
    background: Mapping[str, Array],
    of: Array | None,
    seed: int,
    seconds: float = math.inf,
) -> Shares:
    """Explain rows one by one, as many as the time allows, and at least one.

    `of`: the class (number of an output) that is explained of each row; None: the first output, a value. Of up to `EXACT` columns the
    shares are exact for this background; of more, each background row has an order of its own, of two rows the one reversed.
    """
    names = tuple(rows)
    count, size = len(rows[names[0]]), len(background[names[0]])
    exact = len(names) <= EXACT
    plan = _subsets(len(names)) if exact else _orders(len(names), size, seed)
    until = time.perf_counter() + seconds
    found: list[Array] = []
    ends: list[tuple[float, float]] = []
    for row in range(count):
        if found and time.perf_counter() > until:
            break
        asked = _asked(scores, {name: values[row] for name, values in rows.items()}, background, plan.known)
        value = asked[..., 0 if of is None else int(of[row])]  # (background, steps)
        found.append(plan.shares(value))
        ends.append((float(value[:, plan.last].mean()), float(value[:, 0].mean())))
    score, base = np.array(ends).T
    return Shares(names, np.stack(found), score, base, exact)


class _Plan(NamedTuple):
    known: Array  # bool (background or 1, steps, columns): what is known of the row; nothing in the first step
    shares: Callable[[Array], Array]  # what was said, (background, steps), to (columns,)
    last: int  # the step in which all is known


def _subsets(columns: int) -> _Plan:
    numbers = np.arange(2**columns)
    known = (numbers[:, None] >> np.arange(columns)) & 1 == 1
    sizes = known.sum(1)
    weight = [
        math.factorial(s) * math.factorial(columns - s - 1) / math.factorial(columns) if s < columns else 0.0
        for s in range(columns + 1)
    ]

    def found(value: Array) -> Array:
        mean = value.mean(0)
        out = np.empty(columns)
        for column in range(columns):
            without = numbers[~known[:, column]]
            out[column] = np.sum(np.array(weight)[sizes[without]] * (mean[without | (1 << column)] - mean[without]))
        return out

    return _Plan(known[None], found, 2**columns - 1)


def _orders(columns: int, background: int, seed: int) -> _Plan:
    random = np.random.default_rng(seed)
    orders = np.empty((background, columns), np.int64)
    for at in range(0, background, 2):
        orders[at] = random.permutation(columns)
        orders[at + 1 : at + 2] = orders[at][::-1]
    turn = np.argsort(orders, axis=1)  # when each column becomes known
    known = turn[:, None, :] < np.arange(columns + 1)[None, :, None]

    def found(value: Array) -> Array:
        return np.asarray(np.take_along_axis(np.diff(value, axis=1), turn, axis=1).mean(0))

    return _Plan(known, found, columns)


def _asked(scores: Scores, row: Mapping[str, Any], background: Mapping[str, Array], known: Array) -> Array:
    """Return what is said of the row as far as it is known, the rest taken from each background row: (background, steps, outputs)."""
    size = len(next(iter(background.values())))
    steps = known.shape[1]
    wide = sum(np.asarray(values).nbytes for values in background.values()) // size
    each = max(1, min(_AT_ONCE, _BYTES // max(1, wide)) // size)
    parts = []
    for at in range(0, steps, each):
        part = known[:, at : at + each]
        made = {}
        for number, (name, others) in enumerate(background.items()):
            tail = others.shape[1:]
            shape = (size, part.shape[1], *tail)
            given = part[:, :, number].reshape(part.shape[0], part.shape[1], *(1 for _ in tail))
            own = np.empty((), others.dtype) if not tail else np.asarray(row[name])
            if not tail:
                own[()] = row[name]
            values = np.where(np.broadcast_to(given, shape), own, np.broadcast_to(others[:, None], shape))
            made[name] = values.reshape(size * part.shape[1], *tail)
        said = np.asarray(scores(made), dtype=np.float64)
        parts.append(said.reshape(size, part.shape[1], -1))
    return np.concatenate(parts, axis=1)
