"""The curves of a report, as short lists of points: what a plot needs, however many rows there are.

A curve of classes is one against the rest; of two classes it is that of the class that is looked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BINS = 10  # of calibration, all as wide
_POINTS = 200  # of one curve
_CLASSES = 12  # that have curves
_DIGITS = 6


class Ranked:
    """Rows in the order of their score, the highest first, where scores differ: what ROC, precision-recall and thresholds share.

    `truth`: bool (rows,), whether a row is of the class; `score`: (rows,). `hits` and `alarms` count, down to each distinct score
    (`at`), the rows of the class and the others.
    """

    def __init__(self, truth: Array, score: Array):
        order = np.argsort(-score, kind="stable")
        ordered = score[order]
        last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
        self.at: Array = ordered[last]
        self.hits: Array = np.cumsum(truth[order], dtype=np.int64)[last]
        self.alarms: Array = last + 1 - self.hits
        self.positives, self.negatives = int(self.hits[-1]), int(self.alarms[-1])

    def roc(self) -> dict[str, Any]:
        """Return shares of alarms among the others (x) and of hits among the class (y), from (0, 0) to (1, 1)."""
        x = np.concatenate([[0.0], self.alarms / max(1, self.negatives)])
        y = np.concatenate([[0.0], self.hits / max(1, self.positives)])
        return _thinned(x, y, np.concatenate([[np.inf], self.at]))

    def precision_recall(self) -> dict[str, Any]:
        """Return recall (x) and precision (y), from few alarms to all."""
        return _thinned(self.hits / max(1, self.positives), self.hits / (self.hits + self.alarms), self.at)

    def average_precision(self) -> float:
        """Return the mean over the class of the precision at each row's score, as scikit-learn has it."""
        gained = np.diff(self.hits, prepend=0)
        return float((gained * (self.hits / (self.hits + self.alarms))).sum() / max(1, self.positives))

    def thresholds(self) -> dict[str, list[Any]]:
        """Return, for thresholds of 0, 0.01 … 1, the hits and the false alarms: a row is of the class from the threshold on."""
        steps = np.linspace(0, 1, 101)
        places = np.searchsorted(-self.at, -steps, side="right")  # how many distinct scores are at or above
        hits = np.concatenate([[0], self.hits])[places]
        alarms = np.concatenate([[0], self.alarms])[places]
        return {"at": [round(float(s), 2) for s in steps], "tp": hits.tolist(), "fp": alarms.tolist()}

    def cheapest(self, fp: float, fn: float) -> tuple[float, int, int]:
        """Return the threshold with the least cost, its hits and its false alarms.

        A row is of the class where its score is at or above. Of equal costs the highest threshold is taken; none above the highest
        score is, as it may be the dearest to miss all: then the threshold is infinite.
        """
        hits = np.concatenate([[0], self.hits])
        alarms = np.concatenate([[0], self.alarms])
        best = int(np.argmin(fp * alarms + fn * (self.positives - hits)))
        at = np.inf if best == 0 else float(self.at[best - 1])
        if 0 < best < len(self.at):  # half way to the next score: the same rows, and no digit decides
            at = (at + float(self.at[best])) / 2
        return at, int(hits[best]), int(alarms[best])


def calibration(right: Array, score: Array) -> dict[str, Any]:
    """Return, for each tenth of the score, how many rows, their mean score, and the share that is `right`; and the two errors.

    ECE (expected calibration error): the mean difference of the two, by rows (Naeini, Cooper & Hauskrecht, AAAI 2015); MCE the largest.
    """
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], score)
    rows = np.bincount(place, minlength=BINS)
    some = rows > 0
    said = np.bincount(place, weights=score.astype(np.float64), minlength=BINS)[some] / rows[some]
    was = np.bincount(place, weights=right.astype(np.float64), minlength=BINS)[some] / rows[some]
    gap = np.abs(said - was)
    return {
        "score": said.tolist(),
        "share": was.tolist(),
        "rows": rows[some].tolist(),
        "ece": float((gap * rows[some]).sum() / rows.sum()),
        "mce": float(gap.max()),
    }


def of_classes(truth: Array, probabilities: Array, classes: Sequence[str | int], positive: int) -> dict[str, Any]:
    """Return the curves of a classifier. `truth`: class numbers (rows,); `probabilities`: (rows, classes)."""
    two = len(classes) == 2
    present = np.unique(truth)
    shown = [positive] if two else [int(c) for c in present[:_CLASSES]]
    found: dict[str, Any] = {"roc": {}, "precision_recall": {}}
    if len(present) > 1:
        for number in shown:
            ranked = Ranked(truth == number, probabilities[:, number])
            found["roc"][str(classes[number])] = ranked.roc()
            found["precision_recall"][str(classes[number])] = ranked.precision_recall()
            if two:
                found["thresholds"] = ranked.thresholds() | {"rows": len(truth), "positives": ranked.positives}
    if two:
        found["calibration"] = calibration(truth == positive, probabilities[:, positive])
    else:  # of the class that is said: Guo, Pleiss, Sun & Weinberger, ICML 2017
        found["calibration"] = calibration(probabilities.argmax(1) == truth, probabilities.max(1))
    return found


def of_values(truth: Array, values: Array, seed: int) -> dict[str, Any]:
    """Return what is left of a regression: a histogram, a sample of rows, and the mean by tenths of what is predicted."""
    left = truth - values
    low, high = np.percentile(left, [0.5, 99.5])
    least = 1e-6 * max(1e-300, float(np.abs(values).max()), float(np.abs(truth).max()))
    if high - low < 100 * least:  # no bins fit between them
        low, high = low - 100 * least, high + 100 * least
    counts, edges = np.histogram(left, bins=40, range=(low, high))
    some = np.sort(np.random.default_rng(seed).permutation(len(truth))[:400])
    order = np.argsort(values, kind="stable")
    tenths = [part for part in np.array_split(order, 10) if len(part)]
    return {
        "residuals": {
            "edges": edges.tolist(),
            "counts": counts.tolist(),
            "beyond": int(len(left) - counts.sum()),
            "quantiles": {f"{q}%": float(np.percentile(left, q)) for q in (1, 5, 25, 50, 75, 95, 99)},
            "truth": _round(truth[some]),
            "predicted": _round(values[some]),
            "by_predicted": [
                {"predicted": float(values[part].mean()), "residual": float(left[part].mean()), "spread": float(left[part].std())}
                for part in tenths
            ],
        }
    }  # fmt: skip


def _thinned(x: Array, y: Array, at: Array) -> dict[str, Any]:
    """Return at most `_POINTS` of the points, as far from each other along the curve as they can be; the ends are kept."""
    if len(x) > _POINTS:
        along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        wanted = np.searchsorted(along, np.linspace(0, along[-1], _POINTS))
        kept = np.unique(np.concatenate([[0], np.minimum(wanted, len(x) - 1), [len(x) - 1]]))
        x, y, at = x[kept], y[kept], at[kept]
    return {
        "x": _round(x),
        "y": _round(y),
        "at": [None if not np.isfinite(t) else round(float(t), _DIGITS) for t in at],
    }


def _round(values: Array) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def chosen(ranked: Ranked, costs: Mapping[str, float], name: str | int) -> dict[str, Any]:
    """Return the threshold that costs least, with what it comes to, beside that of 0.5."""
    fp, fn = costs.get("fp", 1.0), costs.get("fn", 1.0)
    at, hits, alarms = ranked.cheapest(fp, fn)
    rows = ranked.positives + ranked.negatives
    half = int(np.searchsorted(-ranked.at, -0.5, side="right"))
    usual = fp * (ranked.alarms[half - 1] if half else 0) + fn * (
        ranked.positives - (ranked.hits[half - 1] if half else 0)
    )
    return {
        "positive": name,
        "threshold": at if np.isfinite(at) else None,
        "costs": {"fp": fp, "fn": fn},
        "cost": (fp * alarms + fn * (ranked.positives - hits)) / rows,  # of one row
        "cost_at_half": float(usual) / rows,
        "tp": hits,
        "fp": alarms,
        "fn": ranked.positives - hits,
        "tn": ranked.negatives - alarms,
        "precision": hits / max(1, hits + alarms),
        "recall": hits / max(1, ranked.positives),
    }
