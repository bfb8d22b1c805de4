"""What is known of each column: counts, missing values, mean, deviation, quantiles, categories.

Gathered while the rows pass by, in bounded memory. Counts, means, deviations and bounds are those of all rows. Quantiles are
exact up to 131,072 rows, then those of a random sample of at least 65,536 rows. Different words are counted up to 100,000, and so
are numbers in as many rows as the sample holds; in more rows up to 10,000.
"""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.data.blocks import as_array

SAMPLE = 131_072  # rows that quantiles are taken from, at most
MAX_DISTINCT = 100_000  # values that are counted
_AT_ONCE = 16_384  # numbers that are counted together
MAX_WORD = 1_000  # characters: a column with a longer value is text, and none of them is kept beside the rows
_FEW = 10_000  # different numbers that are counted once there are more rows than the sample holds
_TOP = 20  # categories whose counts are kept; of the target all are
_BLOCK_SAMPLE = 4096  # images and tensors that mean and deviation are taken from
_QUANTILES = {"min": 0.0, "25%": 0.25, "50%": 0.5, "75%": 0.75, "max": 1.0}


class RowSample:
    """Which rows belong to a random sample of all rows that pass by: each has the same chance, and the same seed the same rows.

    A row has a random key and stays while the key is below a share, which is halved whenever the sample grows too large.
    """

    def __init__(self) -> None:
        self._random = np.random.PCG64(0)
        self.share = 1.0
        self._keys = np.empty(0)

    def choose(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return which of the next `count` rows are in (bool), and which of those that were in before still are; None: all."""
        keys = self._random.random_raw(count) / 2.0**64
        taken = keys < self.share
        grown = np.concatenate([self._keys, keys[taken]])
        before = len(self._keys)
        kept = None
        while len(grown) > SAMPLE:
            self.share /= 2
            if kept is None:
                kept = np.ones(before, bool)
            kept &= self._keys < self.share
            grown = grown[grown < self.share]
        if kept is not None:
            taken = keys < self.share
        self._keys = grown
        return taken, kept


class Numbers:
    """Statistics of a column of numbers."""

    def __init__(self) -> None:
        self._count = self._infinite = self._nan = 0
        self._mean = self._squares = 0.0
        self._low, self._high = math.inf, -math.inf
        self._sample = np.empty(0)
        self._whole = True  # whether the sample is all there is
        self._distinct: set[float] | None = None  # None: not needed yet, or too many

    def add(self, values: pa.ChunkedArray, taken: np.ndarray, kept: np.ndarray | None) -> None:
        """Add rows; `taken` and `kept` are what `RowSample.choose` says of them."""
        numbers = pc.cast(values, pa.float64(), safe=False).to_numpy()
        is_finite = np.isfinite(numbers)
        finite, missing = numbers, 0
        if not is_finite.all():
            finite, missing = numbers[is_finite], int(np.count_nonzero(np.isnan(numbers)))
        self._nan += missing
        self._infinite += len(numbers) - len(finite) - missing
        self._moments(finite)
        if kept is not None:
            self._sample = self._sample[kept]
        if self._whole and not taken.all():
            self._whole = False
            found = np.unique(self._sample[np.isfinite(self._sample)])
            self._distinct = set(found.tolist()) if len(found) <= _FEW else None
        self._sample = np.concatenate([self._sample, numbers[taken]])
        for at in range(0, len(finite), _AT_ONCE):  # most columns have too many already in the first rows
            if self._distinct is None:
                break
            found = pc.unique(pa.array(finite[at : at + _AT_ONCE]))
            if len(found) <= _FEW:
                self._distinct.update(found.to_pylist())
            if max(len(found), len(self._distinct)) > _FEW:
                self._distinct = None

    def _moments(self, finite: np.ndarray) -> None:
        """Join mean and sum of squares with those before (Chan, Golub and LeVeque 1983)."""
        count = len(finite)
        if not count:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float64 is left out
            mean = float(finite.mean())
            away = finite - mean
            away *= away  # and no product of vectors, which would wake the threads of the linear algebra
            squares = float(away.sum())
            apart, total = mean - self._mean, self._count + count
            self._mean += apart * count / total
            self._squares += squares + apart * apart * self._count * count / total
        self._count = total
        self._low, self._high = min(self._low, float(finite.min())), max(self._high, float(finite.max()))

    def quantile(self, share: float) -> float:
        """Return a quantile of the finite values, of which there must be one."""
        ordered = np.sort(self._sample[np.isfinite(self._sample)])
        return _quantile(ordered, share) or 0.0

    def told(self) -> dict[str, Any]:
        """Return the statistics of the finite values."""
        found: dict[str, Any] = {"missing": self._nan}
        if self._infinite:
            found["infinite"] = self._infinite
        if not self._count:
            return found
        ordered = np.sort(self._sample[np.isfinite(self._sample)])
        found |= {"mean": finite_or_none(self._mean), "std": finite_or_none(math.sqrt(self._squares / self._count))}
        if len(ordered):
            found |= {word: _quantile(ordered, share) for word, share in _QUANTILES.items()}
        found |= {"min": finite_or_none(self._low), "max": finite_or_none(self._high)}
        if self._whole:
            found["unique"] = 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))
        elif self._distinct is not None:
            found["unique"] = len(self._distinct)
        return found


class Words:
    """Counts of the values of a column of words, truth values or whole numbers, and how long the words are."""

    def __init__(self) -> None:
        self.tally: dict[Any, int] | None = {}  # None: there are more than 100,000, or long ones
        self._letters = self.longest = self._count = 0

    def add(self, values: pa.ChunkedArray) -> None:
        """Add rows."""
        if pa.types.is_large_string(values.type):
            lengths = pc.utf8_length(values)
            self._count += len(values) - values.null_count
            self._letters += pc.sum(lengths).as_py() or 0
            self.longest = max(self.longest, pc.max(lengths).as_py() or 0)
            if self.longest > MAX_WORD:
                self.tally = None
        if self.tally is not None:
            for pair in pc.value_counts(values.drop_null()).to_pylist():
                value = pair["values"]
                self.tally[value] = self.tally.get(value, 0) + pair["counts"]
            if len(self.tally) > MAX_DISTINCT:
                self.tally = None

    def told(self, *, is_target: bool) -> dict[str, Any]:
        """Return the counts, of the most frequent values or, of a target, of all."""
        tally = self.tally or {}
        often = sorted(tally, key=lambda value: (-tally[value], str(value)))
        # As pairs: JSON would turn whole numbers and truth values that are keys into text.
        counts = [[value, tally[value]] for value in (sorted(tally) if is_target else often[:_TOP])]
        return {"unique": len(tally), "counts": counts}

    def lengths(self) -> dict[str, Any]:
        """Return how long the words are."""
        if not self._count:
            return {"unique": 0, "mean_length": None, "max_length": None}
        unique = {"unique": len(self.tally)} if self.tally is not None else {}
        return {**unique, "mean_length": self._letters / self._count, "max_length": self.longest}


class Moments:
    """The first and the last of the times of a column."""

    def __init__(self) -> None:
        self._low: Any = None
        self._high: Any = None

    def add(self, values: pa.ChunkedArray) -> None:
        """Add rows."""
        bounds = pc.min_max(values).as_py()
        if bounds["min"] is not None:
            self._low = bounds["min"] if self._low is None else min(self._low, bounds["min"])
            self._high = bounds["max"] if self._high is None else max(self._high, bounds["max"])

    def told(self) -> dict[str, Any]:
        """Return both, as ISO text."""
        return {"min": self._low and self._low.isoformat(), "max": self._high and self._high.isoformat()}


def describe_block(
    name: str, rows: int, sample: np.ndarray, dtype: str, shape: tuple[int, ...], kind: FeatureType
) -> Column:
    """Return a column of images or tensors; mean and deviation are those of `sample`, its first 4,096 values at most."""
    values = sample[:_BLOCK_SAMPLE].astype("float64")
    known = values[np.isfinite(values)]
    measured = {"mean": known.mean(), "std": known.std(), "min": known.min(), "max": known.max()} if len(known) else {}
    stats = {"count": rows, "missing": 0, **{word: finite_or_none(value) for word, value in measured.items()}}
    return Column(name=name, type=kind, shape=shape, dtype=dtype, stats=stats)


def block_sample(values: pa.ChunkedArray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a copy of the first values of a column, for `describe_block`: 16 MiB at most."""
    width = np.dtype(dtype).itemsize * math.prod(shape)
    return as_array(values.slice(0, max(1, min(_BLOCK_SAMPLE, (16 << 20) // max(1, width)))), dtype, shape).copy()


def _quantile(ordered: np.ndarray, share: float) -> float | None:
    """Return a quantile of sorted values, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return finite_or_none(float(ordered[low]) + (place - low) * (float(ordered[high]) - float(ordered[low])))


def finite_or_none(value: Any) -> float | None:
    """Return a number that JSON can hold."""
    number = float(value)
    return number if math.isfinite(number) else None
