"""How far each row is from what the model learnt from, and how good the model is out there.

An isolation forest (Liu, Ting & Zhou, ICDM 2008) is fitted on rows of the training part, as numbers: a category as how rare it is there,
a picture as brightness, contrast, sharpness and an 8 x 8 miniature, a text as its length and how many of its words were never seen. Other
training rows say how far is far: a row is told to be out there where it is farther than 99 of 100 of those.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType

Array = NDArray[Any]
FITTED = 10_000  # rows of the training part that are looked at, half of them to say how far is far
SHOWN = 20  # rows that are named
_TREES, _AT = 100, 0.99
_SIDE = 8
_MOST = 1e37  # trees compare numbers of 32 bits


class Far(NamedTuple):
    """What a report says of rows that are far, and those rows."""

    report: dict[str, Any]
    rows: tuple[dict[str, Any], ...]


class Outliers:
    """Gathers, batch by batch, how far rows are; fitted on rows of the training part. Raises `ValueError` where no column has numbers."""

    def __init__(self, columns: Sequence[Column], learnt_from: Mapping[str, Any], seed: int):
        from sklearn.ensemble import IsolationForest

        self._features = [_Feature(column, np.asarray(learnt_from[column.name])) for column in columns]
        known = self._numbers(learnt_from)
        if not known.shape[1] or len(known) < 20:
            raise ValueError("too few rows, or no column that can be told as numbers")
        half = np.random.default_rng(seed).permutation(len(known))
        fit, rest = known[half[::2]], known[half[1::2]]
        self._forest = IsolationForest(n_estimators=_TREES, random_state=seed).fit(fit)
        self._low, self._high = fit.min(axis=0), fit.max(axis=0)
        self._range = np.where(self._high > self._low, self._high - self._low, np.maximum(1.0, np.abs(self._low)))
        self._usual = np.sort(self._distance(rest))  # of rows it was not fitted on, or they would seem too near
        self._middle = np.median(known, axis=0)
        spread = np.percentile(known, 75, axis=0) - np.percentile(known, 25, axis=0)
        self._spread = np.where(spread > 0, spread, np.maximum(known.std(axis=0), 1e-12))
        self._parts: list[Array] = []
        self._farthest: list[dict[str, Any]] = []
        self._seen = 0

    def add(self, batch: Mapping[str, Any]) -> None:
        """Take rows, as a `Reader` gives them."""
        numbers = self._numbers(batch)
        far = self._distance(numbers)
        for at in np.argsort(-far)[:SHOWN]:
            self._farthest.append(self._named(batch, numbers[at], float(far[at]), int(at)))
        self._farthest = sorted(self._farthest, key=lambda one: (-one["distance"], one["row"]))[:SHOWN]
        self._parts.append(far)
        self._seen += len(far)

    def found(self, errors: Array | None, metric: str) -> Far:
        """Tell of all rows; `errors`: of each, as `measuring.errors_of` has them, None where there are none."""
        from scipy import stats

        far = np.concatenate(self._parts)
        usual = len(self._usual)
        last = max(1, int((1 - _AT) * (usual + 1)))  # of the usual rows, how many are at the limit or farther
        limit = float(self._usual[-last])
        beyond = int((far > limit).sum())
        report: dict[str, Any] = {
            "method": "isolation forest",
            "fitted_on": len(self._usual) * 2,
            "beyond": beyond,
            "share": beyond / len(far),
            "expected": last / (usual + 1),
            # Of rows of the same kind, how many lie beyond the last-but-so-many of others: exact, however few these are.
            "p": float(stats.betabinom.sf(beyond - 1, len(far), last, usual - last + 1)),
        }
        if errors is not None:
            order = np.argsort(far, kind="stable")
            parts = [part for part in np.array_split(order, 5) if len(part)]
            report["metric"] = metric
            report["fifths"] = [
                {
                    "from": float(far[part].min()), "to": float(far[part].max()), "rows": len(part),
                    "value": _value(errors[part], metric),
                }
                for part in parts
            ]  # fmt: skip
            if beyond:
                report["value_beyond"] = _value(errors[far > limit], metric)
        rows = tuple(
            {**one, "share": float((usual - np.searchsorted(self._usual, one["distance"])) / usual)}
            for one in self._farthest
        )
        return Far(report, rows)

    def _numbers(self, batch: Mapping[str, Any]) -> Array:
        parts = [feature.numbers(np.asarray(batch[feature.name])) for feature in self._features]
        return np.clip(np.concatenate(parts, axis=1), -_MOST, _MOST) if parts else np.empty((0, 0))

    def _distance(self, numbers: Array) -> Array:
        """Return how far rows are. Trees see no difference beyond the last row they were fitted on, so what lies beyond is added."""
        outside = np.maximum(self._low - numbers, numbers - self._high).clip(min=0) / self._range
        return np.asarray(-self._forest.score_samples(numbers) + np.log1p(outside.max(axis=1)))

    def _named(self, batch: Mapping[str, Any], numbers: Array, far: float, at: int) -> dict[str, Any]:
        """Return a row with the columns that are least usual in it, and what stands there."""
        apart = np.abs(numbers - self._middle) / self._spread
        each, start = [], 0
        for feature in self._features:
            each.append(float(apart[start : start + feature.width].max(initial=0.0)))
            start += feature.width
        worst = [self._features[number] for number in np.argsort(-np.array(each), kind="stable")[:2]]
        shown = {feature.name: feature.say(np.asarray(batch[feature.name])[at]) for feature in worst}
        return {"row": self._seen + at, "distance": far, "unusual": shown}


def _value(errors: Array, metric: str) -> float:
    return float(1 - errors.mean() if metric == "accuracy" else errors.mean())


class _Feature:
    """One column as numbers, float64 (rows, width); fitted on what was learnt from."""

    def __init__(self, column: Column, known: Array):
        self.name, self._type = column.name, column.type
        self._counts: Counter[Any] = Counter()
        self._rows = len(known)
        self._fill = 0.0
        if self._type in (FeatureType.CATEGORY, FeatureType.BOOLEAN):
            self._counts.update(map(_plain, known.tolist()))
        elif self._type is FeatureType.TEXT:
            self._counts.update(word for text in known.tolist() for word in str(text or "").lower().split())
        elif known.ndim == 1:
            numbers = known.astype(np.float64)
            self._fill = float(np.nanmedian(numbers)) if np.isfinite(numbers).any() else 0.0
        self.width = self.numbers(known[:1]).shape[1]

    def numbers(self, values: Array) -> Array:
        """Return values as numbers."""
        if self._type in (FeatureType.CATEGORY, FeatureType.BOOLEAN):
            counts = np.array([self._counts[_plain(value)] for value in values.tolist()], np.float64)
            return np.asarray(-np.log((counts + 0.5) / (self._rows + 0.5)))[:, None]
        if self._type is FeatureType.TEXT:
            return np.array([self._text(text) for text in values.tolist()], np.float64).reshape(len(values), 2)
        if self._type is FeatureType.IMAGE and values.ndim == 4:
            return _picture(values)
        if self._type is FeatureType.BOXES:
            return np.empty((len(values), 0))
        wide = values.reshape(len(values), -1).astype(np.float64)
        if wide.shape[1] > 64:  # of a sound, say
            parts = np.array_split(wide, 16, axis=1)
            wide = np.concatenate([np.stack([p.mean(1) for p in parts], 1), np.stack([p.std(1) for p in parts], 1)], 1)
        found = np.where(np.isfinite(wide), wide, self._fill)
        if values.ndim == 1:  # that it is missing may be what is strange
            found = np.concatenate([found, ~np.isfinite(wide)], axis=1)
        return found

    def _text(self, text: Any) -> tuple[float, float]:
        words = str(text or "").lower().split()
        unseen = sum(word not in self._counts for word in words)
        return float(np.log1p(len(words))), unseen / max(1, len(words))

    def say(self, value: Any) -> str:
        """Return a value in short words."""
        if np.ndim(value):
            return f"mean {float(np.mean(value)):.4g}, deviation {float(np.std(value)):.4g}"
        if self._type in (FeatureType.CATEGORY, FeatureType.BOOLEAN):
            times = self._counts[_plain(value)]
            return (
                f"{_short(value)} ({'never' if not times else f'{times:,} times'} in {self._rows:,} rows learnt from)"
            )
        return _short(value)


def _plain(value: Any) -> Any:
    return None if value is None or value != value else value


def _short(value: Any) -> str:
    if _plain(value) is None:
        return "missing"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _picture(values: Array) -> Array:
    """Return brightness, contrast, sharpness and a miniature of pictures, (rows, 3 + 64)."""
    grey = values.astype(np.float32).mean(axis=3)
    down, across = (min(_SIDE, size) for size in grey.shape[1:])
    bands = np.stack([part.mean(axis=1) for part in np.array_split(grey, down, axis=1)], axis=1)
    small = np.stack([part.mean(axis=2) for part in np.array_split(bands, across, axis=2)], axis=2)
    edges = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2)) if grey.shape[1] > 1 else np.zeros(len(grey))
    facts = np.stack([grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), edges], axis=1)
    return np.concatenate([facts, small.reshape(len(grey), -1)], axis=1).astype(np.float64)
