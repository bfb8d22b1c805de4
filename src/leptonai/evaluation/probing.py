"""What becomes of a model's answers when its rows are changed: which columns it needs, and how much spoilt rows cost it.

Both are told from a random sample of the rows, which is held in memory. Importance is that of permutation (Breiman, *Machine Learning*
45, 2001; Fisher, Rudin & Dominici, JMLR 20, 2019). Pictures are spoilt as by Hendrycks & Dietterich (ICLR 2019), with the severities that
they chose for small pictures; numbers by noise in units of their spread; and in all columns that can lack a value, values go missing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import LeptonError
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType

Array = NDArray[Any]
ROWS = 2_000  # of the sample, at most
BYTES = 64 * 2**20  # that it may take
REPEATS = 5  # permutations of one column
_BATCH = 256
_FAR = 1e100  # whose square is a number

_MISSING = (0.05, 0.1, 0.2, 0.35, 0.5)  # share of values
_NUMBERS = (0.05, 0.1, 0.2, 0.4, 0.8)  # noise, in standard deviations
_NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)  # in parts of the range from black to white
_BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation in pixels
_BRIGHT = (0.05, 0.1, 0.15, 0.2, 0.3)
_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # what is left of it
_HIDDEN = (0.05, 0.1, 0.15, 0.2, 0.3)  # share of the area, one square

Scores = Callable[[Mapping[str, Any]], Any]
Errors = Callable[[Array, Array], Array | None]
Spoil = Callable[[Array, np.random.Generator], Array]


class Sample:
    """A uniform random sample of rows, gathered batch by batch. Deterministic by seed and the order of the rows."""

    def __init__(self, columns: Sequence[str], seed: int):
        self._columns = tuple(columns)
        self._random = np.random.default_rng(seed)
        self._keys = np.empty(0)
        self._rows: dict[str, Array] = {}
        self._truth = np.empty(0)
        self._most = ROWS

    def add(self, batch: Mapping[str, Any], truth: Array) -> None:
        """Take the rows of a batch; `truth`: what they are, (rows, …)."""
        keys = self._random.random(len(truth))
        if not self._rows:
            self._rows = {name: np.asarray(batch[name])[:0] for name in self._columns}
            self._truth = truth[:0]
            each = sum(np.asarray(batch[name]).nbytes for name in self._columns) // max(1, len(truth))
            self._most = max(50, min(ROWS, BYTES // max(1, each)))
        every = np.concatenate([self._keys, keys])
        kept = np.argsort(every, kind="stable")[: self._most]
        kept.sort()
        self._keys = every[kept]
        old, new = kept[kept < len(self._truth)], kept[kept >= len(self._truth)] - len(self._truth)
        for name in self._columns:
            self._rows[name] = np.concatenate([self._rows[name][old], np.asarray(batch[name])[new]])
        self._truth = np.concatenate([self._truth[old], truth[new]])

    @property
    def rows(self) -> dict[str, Array]:
        """The columns of the sample."""
        return self._rows

    @property
    def truth(self) -> Array:
        """What its rows are."""
        return self._truth


class Asked(NamedTuple):
    """A sample, who answers, and how wrong an answer is: `errors` takes truth and scores, and gives the error of each row."""

    sample: Sample
    scores: Scores
    errors: Errors

    def error(self, rows: Mapping[str, Array]) -> float | None:
        """Return the mean error of the answers to rows that were changed; None where one row has several values."""
        count = len(self.sample.truth)
        parts = [
            np.asarray(self.scores({name: values[at : at + _BATCH] for name, values in rows.items()}))
            for at in range(0, count, _BATCH)
        ]
        return self.mean(np.concatenate(parts))

    def mean(self, scores: Array) -> float | None:
        """Return the mean error of these answers to the rows of the sample; None where one row has several values."""
        count = len(self.sample.truth)
        found = self.errors(self.sample.truth, scores)
        if found is None:
            return None
        # An answer that is no number is no right one. That of a value has no distance, so the worst of the others stands for it.
        broken = ~np.isfinite(scores.reshape(count, -1)).all(axis=1)
        if broken.all():
            return float("nan")
        found = np.where(broken, max(1.0, float(found[~broken].max())), found)
        return float(found.mean())


def importance(asked: Asked, seed: int, notes: list[str]) -> tuple[dict[str, Any], ...]:
    """Return, for each column, by how much the mean error grows when its values are shuffled among the rows: the most important first."""
    whole = asked.error(asked.sample.rows)
    if whole is None or not np.isfinite(whole):
        notes.append("importance is not told: a row has several values, or the answers are no numbers")
        return ()
    random = np.random.default_rng(seed)
    found = []
    for name, values in asked.sample.rows.items():
        grown = []
        for _ in range(REPEATS):
            error = asked.error({**asked.sample.rows, name: values[random.permutation(len(values))]})
            grown.append(np.nan if error is None else error - whole)
        found.append({"column": name, "importance": float(np.mean(grown)), "spread": float(np.std(grown))})
    return tuple(sorted(found, key=lambda one: -one["importance"]))


def robustness(
    asked: Asked, columns: Sequence[Column], seed: int, notes: list[str]
) -> tuple[float | None, tuple[dict[str, Any], ...]]:
    """Return the mean error of the sample, and of it spoilt in each way and severity from 1 to 5; a note says what could not be asked."""
    whole = asked.error(asked.sample.rows)
    if whole is None or not np.isfinite(whole):
        notes.append("robustness is not told: a row has several values, or the answers are no numbers")
        return None, ()
    kinds = {column.name: column for column in columns if column.name in asked.sample.rows}
    found: list[dict[str, Any]] = []
    tried = list(ways(kinds, asked.sample.rows))
    for way, named, severities in tried:
        for severity, spoil in enumerate(severities, 1):
            random = np.random.default_rng([seed, severity])
            spoilt = {name: spoil(asked.sample.rows[name], random) for name in named}
            try:
                error = asked.error({**asked.sample.rows, **spoilt})
            except LeptonError as refused:  # a model that takes no missing values, say
                notes.append(f"robustness to {way} is not told: {refused.message}")
                break
            if error is None or not np.isfinite(error):
                notes.append(f"robustness to {way} of severity {severity} is not told: the answers are no numbers")
                break
            found.append({"way": way, "severity": severity, "error": error})
    if not tried:
        notes.append("robustness is not told: no column can be spoilt")
    return whole, tuple(found)


def ways(
    kinds: Mapping[str, Column], rows: Mapping[str, Array]
) -> Iterator[tuple[str, tuple[str, ...], Sequence[Spoil]]]:
    """Yield the ways to spoil rows: its word, the columns that it is done to, and what does it, for each severity."""
    numbers = tuple(n for n, c in kinds.items() if c.type is FeatureType.NUMBER and rows[n].dtype.kind == "f")
    lacking = (*numbers, *(n for n, c in kinds.items() if rows[n].dtype == object and c.type is FeatureType.CATEGORY))
    pictures = tuple(n for n, c in kinds.items() if c.type is FeatureType.IMAGE and rows[n].ndim == 4)
    if numbers:
        yield "noise on numbers", numbers, [_jittered(size) for size in _NUMBERS]
    if lacking:
        yield "missing values", lacking, [_emptied(share) for share in _MISSING]
    if pictures:
        yield "noise", pictures, [_noisy(size) for size in _NOISE]
        yield "blur", pictures, [_blurred(size) for size in _BLUR]
        yield "brightness", pictures, [_brightened(size) for size in _BRIGHT]
        yield "contrast", pictures, [_flattened(left) for left in _CONTRAST]
        yield "a hidden square", pictures, [_hidden(share) for share in _HIDDEN]


def _jittered(size: float) -> Spoil:
    def spoil(values: Array, random: np.random.Generator) -> Array:
        with np.errstate(invalid="ignore"):
            spread = float(np.nanstd(np.clip(values, -_FAR, _FAR))) if np.isfinite(values).any() else 0.0
        return (values + random.normal(0, size * spread, values.shape)).astype(values.dtype)

    return spoil


def _emptied(share: float) -> Spoil:
    def spoil(values: Array, random: np.random.Generator) -> Array:
        found = values.copy()
        found[random.random(len(values)) < share] = None if values.dtype == object else np.nan
        return found

    return spoil


def _noisy(size: float) -> Spoil:
    return lambda values, random: _back(values, _unit(values) + random.normal(0, size, values.shape))


def _blurred(size: float) -> Spoil:
    def spoil(values: Array, random: np.random.Generator) -> Array:  # noqa: ARG001 - the others need it
        from scipy.ndimage import gaussian_filter

        return _back(values, gaussian_filter(_unit(values), (0, size, size, 0)))

    return spoil


def _brightened(size: float) -> Spoil:
    return lambda values, random: _back(values, _unit(values) + size)  # noqa: ARG005 - the others need it


def _flattened(left: float) -> Spoil:
    def spoil(values: Array, random: np.random.Generator) -> Array:  # noqa: ARG001 - the others need it
        unit = _unit(values)
        mean = unit.mean(axis=(1, 2), keepdims=True)
        return _back(values, (unit - mean) * left + mean)

    return spoil


def _hidden(share: float) -> Spoil:
    def spoil(values: Array, random: np.random.Generator) -> Array:
        count, height, width = values.shape[:3]
        side = max(1, round((share * height * width) ** 0.5))
        tops = random.integers(0, max(1, height - side + 1), count)
        lefts = random.integers(0, max(1, width - side + 1), count)
        found = values.copy()
        for image, top, left in zip(found, tops, lefts, strict=True):
            image[top : top + side, left : left + side] = 0
        return found

    return spoil


def _unit(values: Array) -> Array:
    """Return pictures as numbers from 0 (black) to 1 (white)."""
    return np.asarray(values, np.float32) / _white(values)


def _back(values: Array, unit: Array) -> Array:
    """Return pictures in the form that they came in."""
    wide = np.clip(unit, 0, 1) * _white(values)
    return np.asarray(np.rint(wide) if values.dtype.kind in "ui" else wide).astype(values.dtype)


def _white(values: Array) -> float:
    if values.dtype.kind in "ui":
        return float(np.iinfo(values.dtype).max)
    return max(1.0, float(values.max(initial=0)))
