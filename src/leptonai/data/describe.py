"""What is known of each column: counts, missing values, mean, deviation, quantiles, categories."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.nouns import Column, FeatureType
from leptonai.data.tables import BlockType

_TOP = 20  # categories whose counts are kept, unless the column is the target
_SAMPLE = 4096  # images and tensors that mean and deviation are taken from


def describe(name: str, values: pa.ChunkedArray, kind: FeatureType, *, is_target: bool) -> Column:
    """Return a column with its statistics."""
    if kind in {FeatureType.IMAGE, FeatureType.TENSOR}:
        return _block(name, values, kind)
    count = len(values)
    stats: dict[str, Any] = {"count": count, "missing": values.null_count}
    categories: tuple[str | int, ...] = ()
    if kind in {FeatureType.NUMBER, FeatureType.INTEGER}:
        stats |= _numbers(values)
    elif kind is FeatureType.DATETIME:
        bounds = pc.min_max(values).as_py()
        stats |= {edge: None if bounds[edge] is None else bounds[edge].isoformat() for edge in ("min", "max")}
    else:
        tally = {
            item["values"]: item["counts"] for item in pc.value_counts(values).to_pylist() if item["values"] is not None
        }
        stats["unique"] = len(tally)
        if kind is not FeatureType.TEXT:
            categories = tuple(sorted(tally))
            kept = sorted(tally, key=lambda value: (-tally[value], str(value)))
            # As pairs: JSON would turn whole numbers and booleans that are keys into text.
            stats["counts"] = [[value, tally[value]] for value in (categories if is_target else kept[:_TOP])]
        else:
            lengths = pc.utf8_length(values)
            stats |= {"mean_length": pc.mean(lengths).as_py(), "max_length": pc.max(lengths).as_py()}
    dtype = "str" if pa.types.is_large_string(values.type) else str(values.type.to_pandas_dtype()().dtype) if not pa.types.is_timestamp(values.type) else "int64"  # fmt: skip
    nullable = values.null_count > 0 or (kind is FeatureType.NUMBER and stats.get("missing", 0) > 0)
    if kind is FeatureType.INTEGER and nullable:
        dtype = "float64"
    return Column(name=name, type=kind, dtype=dtype, nullable=nullable, categories=categories, stats=stats)


def _numbers(values: pa.ChunkedArray) -> dict[str, Any]:
    array = values.to_numpy().astype("float64")
    missing = int(np.isnan(array).sum())
    array = array[np.isfinite(array)]
    if not len(array):
        return {"missing": missing}
    low, quarter, half, three, high = (float(q) for q in np.quantile(array, (0, 0.25, 0.5, 0.75, 1)))
    found = {
        "mean": float(array.mean()),
        "std": float(array.std()),
        "min": low,
        "25%": quarter,
        "50%": half,
        "75%": three,
        "max": high,
    }
    unique = pc.count_distinct(values).as_py()
    return {"missing": missing, "unique": unique, **{key: _finite(value) for key, value in found.items()}}


def _block(name: str, values: pa.ChunkedArray, kind: FeatureType) -> Column:
    block: BlockType = values.type
    sample = as_array(values.slice(0, _SAMPLE), block.dtype, block.shape).astype("float64")
    stats = {
        "count": len(values), "missing": 0, "mean": _finite(sample.mean()), "std": _finite(sample.std()),
        "min": _finite(sample.min()), "max": _finite(sample.max()),
    }  # fmt: skip
    return Column(name=name, type=kind, shape=block.shape, dtype=block.dtype, stats=stats)


def as_array(values: pa.ChunkedArray | pa.Array, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return fixed-size binary (or a block column) as one array (rows, *shape), copying only where it lies in pieces."""
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    size = int(np.dtype(dtype).itemsize * np.prod(shape))
    found = []
    for chunk in chunks:
        storage = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        data = np.frombuffer(storage.buffers()[1], np.uint8, count=len(storage) * size, offset=storage.offset * size)
        found.append(data.view(dtype).reshape(len(storage), *shape))
    if not found:
        return np.empty((0, *shape), dtype)
    return found[0] if len(found) == 1 else np.concatenate(found)


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
