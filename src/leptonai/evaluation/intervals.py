"""How sure a metric is: percentile bootstrap intervals, all metrics from the same resampled rows.

A resample is a weight for each row: how often it was drawn. A statistic is a function of such weights, so that every metric is
computed for many resamples at once by products of matrices and sums along sorted rows.

Up to `WHOLE` rows all rows are drawn from, as Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, have it.
Of more the bag of little bootstraps is taken (Kleiner, Talwalkar, Sarkar & Jordan, JRSS B 76, 2014): `BAGS` random subsets of
rows**0.7, each drawn from as often as there are rows; the ends of the interval are the mean of those of the subsets, each beside its own estimate.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Statistic = Callable[
    [Array], dict[str, Array]
]  # weights (resamples, rows) -> each metric (resamples,), NaN where there is none
WHOLE = 20_000
BAGS = 8
_CELLS = 2_000_000  # weights that are held at once


def intervals(
    statistic: Callable[[Array | None], Statistic],
    measured: Mapping[str, float],
    rows: int,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric, of those that are `measured`.

    `statistic`: of some rows (their numbers; None: all of them), a function of weights.
    """
    if resamples < 2 or rows < 2:
        return {}
    random = np.random.default_rng(seed)
    ends = (100 * (1 - confidence) / 2, 100 * (1 + confidence) / 2)
    if rows <= WHOLE:
        found = _ends(_drawn(statistic(None), rows, rows, resamples, random), ends)
        return {name: found[name] for name in measured if name in found}
    size = int(rows**0.7)
    bags: list[dict[str, tuple[float, float]]] = []
    for _ in range(BAGS):
        of = statistic(random.choice(rows, size, replace=False))
        centre = of(np.ones((1, size)))
        inside = _ends(_drawn(of, size, rows, max(2, resamples // BAGS), random), ends)
        bags.append({name: (low - centre[name][0], high - centre[name][0]) for name, (low, high) in inside.items()})
    return {
        name: (float(value + np.mean([bag[name][0] for bag in bags])), float(value + np.mean([bag[name][1] for bag in bags])))
        for name, value in measured.items()
        if all(name in bag for bag in bags)
    }  # fmt: skip


def _drawn(of: Statistic, size: int, draws: int, resamples: int, random: np.random.Generator) -> dict[str, Array]:
    """Return each metric (resamples,) of `draws` rows drawn from `size`."""
    found: dict[str, list[Array]] = {}
    step = max(1, _CELLS // size)
    for at in range(0, resamples, step):
        count = min(step, resamples - at)
        if draws == size:  # in this way, and order, SciPy draws
            places = random.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
            weights = np.bincount(places.ravel(), minlength=count * size).reshape(count, size).astype(np.float64)
        else:
            weights = random.multinomial(draws, np.full(size, 1 / size), count).astype(np.float64)
        for name, values in of(weights).items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _ends(found: Mapping[str, Array], ends: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Return the percentiles of metrics that nearly all resamples have; in the others a class was not drawn."""
    return {
        name: (float(low), float(high))
        for name, values in found.items()
        if np.isfinite(values).mean() >= 0.99
        for low, high in (np.percentile(values[np.isfinite(values)], ends),)
    }


def of_values(truth: Array, values: Array) -> Callable[[Array | None], Statistic]:
    """Return the metrics of a regression as functions of weights: mae, rmse, r2."""

    def chosen(rows: Array | None) -> Statistic:
        y, p = (truth, values) if rows is None else (truth[rows], values[rows])
        middle = y - truth.mean()  # so that squares lose no digits
        columns = np.stack([np.abs(y - p), (y - p) ** 2, middle, middle**2], 1)

        def statistic(weights: Array) -> dict[str, Array]:
            total = weights.sum(1)
            absolute, squared, first, second = ((weights @ columns) / total[:, None]).T
            spread = second - first**2
            with np.errstate(divide="ignore", invalid="ignore"):
                r2 = np.where(spread > 1e-12 * np.maximum(second, 1e-300), 1 - squared / spread, np.nan)
            return {"mae": absolute, "rmse": np.sqrt(squared), "r2": r2}

        return statistic

    return chosen


def of_classes(
    truth: Array, scores: Array, losses: Mapping[str, Array], curves_of: Sequence[int]
) -> Callable[[Array | None], Statistic]:
    """Return the metrics of a classifier as functions of weights.

    `truth`: class numbers (rows,); `scores`: (rows, classes); `losses`: of each row, by the metric that is their mean;
    `curves_of`: the classes whose areas under curves are averaged.
    """
    classes = scores.shape[1]
    predicted = scores.argmax(1)

    def chosen(rows: Array | None) -> Statistic:
        every = slice(None) if rows is None else rows
        y, guess = truth[every], predicted[every]
        of = {name: values[every] for name, values in losses.items()}
        curves = [_ranked(y == c, scores[every, c]) for c in curves_of]
        numbers = np.arange(classes)
        hits = (y[:, None] == numbers) & (guess[:, None] == numbers)
        columns = np.concatenate(
            [hits, y[:, None] == numbers, guess[:, None] == numbers, *(v[:, None] for v in of.values())], 1
        ).astype(np.float64)

        def statistic(weights: Array) -> dict[str, Array]:
            total = weights.sum(1)
            sums = weights @ columns
            hit, support, said = (sums[:, at * classes : (at + 1) * classes] for at in range(3))
            with np.errstate(divide="ignore", invalid="ignore"):
                precision = np.where(said > 0, hit / said, 0.0)
                recall = np.where(support > 0, hit / support, 0.0)
                f1 = np.where(said + support > 0, 2 * hit / (said + support), 0.0)
            found = {
                "accuracy": hit.sum(1) / total,
                "precision": precision.mean(1),
                "recall": recall.mean(1),
                "f1": f1.mean(1),
            }
            found |= {name: sums[:, 3 * classes + at] / total for at, name in enumerate(of)}
            if curves:
                areas = np.array([curve(weights) for curve in curves])  # (classes, 2, resamples)
                found["roc_auc"], found["average_precision"] = areas.mean(0)
            return found

        return statistic

    return chosen


def _ranked(positive: Array, score: Array) -> Callable[[Array], Array]:
    """Return the area under the ROC curve, and average precision, as one function of weights: (2, resamples).

    The area is the share of pairs in the right order, of which ties count half; average precision is the mean over positives of
    the precision at their score, as scikit-learn has it.
    """
    order = np.argsort(-score, kind="stable")
    sorted_ = score[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_[1:] != sorted_[:-1]]))
    right = positive[order].astype(np.float64)

    def areas(weights: Array) -> Array:
        ordered = weights[:, order]
        hits, misses = (np.add.reduceat(ordered * part, starts, axis=1) for part in (right, 1 - right))
        above, wrong = np.cumsum(hits, 1), np.cumsum(misses, 1)
        positives, negatives = above[:, -1], wrong[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            auc = 1 - (hits * (wrong - misses / 2)).sum(1) / (positives * negatives)
            taken = above + wrong
            precision = np.divide(above, taken, out=np.zeros_like(above), where=taken > 0)
            average = (hits * precision).sum(1) / positives
        return np.stack([auc, average])

    return areas
