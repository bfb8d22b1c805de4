"""What is known of each column: counts, missing values, mean, deviation, quantiles, categories."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.nouns import Column, FeatureType
from leptonai.data.blocks import as_array

_TOP = 20  # categories whose counts are kept; of the target all are
_SAMPLE = 4096  # images and tensors that mean and deviation are taken from
_QUANTILES = {"min": 0.0, "25%": 0.25, "50%": 0.5, "75%": 0.75, "max": 1.0}


def describe(name: str, values: pa.ChunkedArray, kind: FeatureType, *, is_target: bool) -> Column:
    """Return a column of single values, in the form `columns.cast` gives it, with its statistics."""
    stats: dict[str, Any] = {"count": len(values), "missing": values.null_count}
    categories: tuple[str | int, ...] = ()
    dtype = {FeatureType.NUMBER: "float64", FeatureType.BOOLEAN: "bool", FeatureType.DATETIME: "int64"}.get(kind, "str")
    if kind in {FeatureType.NUMBER, FeatureType.INTEGER}:
        stats |= _numbers(values)
        if kind is FeatureType.INTEGER:
            dtype = "float64" if stats["missing"] else "int64"  # NumPy's whole numbers know no missing one
    elif kind is FeatureType.DATETIME:
        bounds = pc.min_max(values).as_py()
        stats |= {edge: bounds[edge] and bounds[edge].isoformat() for edge in ("min", "max")}
    elif kind is FeatureType.TEXT:
        lengths = pc.utf8_length(values)
        stats["unique"] = pc.count_distinct(values).as_py()
        stats |= {"mean_length": pc.mean(lengths).as_py(), "max_length": pc.max(lengths).as_py()}
    else:
        tally = {pair["values"]: pair["counts"] for pair in pc.value_counts(values.drop_null()).to_pylist()}
        stats["unique"] = len(tally)
        categories = tuple(sorted(int(value) if isinstance(value, bool) else value for value in tally))
        often = sorted(tally, key=lambda value: (-tally[value], str(value)))
        # As pairs: JSON would turn whole numbers and truth values that are keys into text.
        stats["counts"] = [[value, tally[value]] for value in (sorted(tally) if is_target else often[:_TOP])]
        if kind is FeatureType.CATEGORY and pa.types.is_integer(values.type):
            dtype = "int64"
    return Column(name=name, type=kind, dtype=dtype, nullable=stats["missing"] > 0, categories=categories, stats=stats)


def _numbers(values: pa.ChunkedArray) -> dict[str, Any]:
    """Return statistics of the finite values; all of them come from one sorted copy."""
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy()
    known = numbers[~np.isnan(numbers)]
    found: dict[str, Any] = {"missing": len(numbers) - len(known)}
    finite = np.sort(known[np.isfinite(known)])
    if len(finite) < len(known):
        found["infinite"] = len(known) - len(finite)
    if not len(finite):
        return found
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float64 is left out
        found |= {"mean": finite_or_none(finite.mean()), "std": finite_or_none(finite.std())}
    found |= {word: _quantile(finite, share) for word, share in _QUANTILES.items()}
    found["unique"] = 1 + int(np.count_nonzero(finite[1:] != finite[:-1]))
    return found


def _quantile(ordered: np.ndarray, share: float) -> float | None:
    """Return a quantile of sorted values, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return finite_or_none(float(ordered[low]) + (place - low) * (float(ordered[high]) - float(ordered[low])))


def describe_block(name: str, values: pa.ChunkedArray, dtype: str, shape: tuple[int, ...], kind: FeatureType) -> Column:
    """Return a column of images or tensors; mean and deviation are those of its first 4,096 values."""
    sample = as_array(values.slice(0, _SAMPLE), dtype, shape).astype("float64")
    known = sample[np.isfinite(sample)]
    measured = {"mean": known.mean(), "std": known.std(), "min": known.min(), "max": known.max()} if len(known) else {}
    stats = {"count": len(values), "missing": 0, **{word: finite_or_none(value) for word, value in measured.items()}}
    return Column(name=name, type=kind, shape=shape, dtype=dtype, stats=stats)


def finite_or_none(value: Any) -> float | None:
    """Return a number that JSON can hold."""
    number = float(value)
    return number if math.isfinite(number) else None
