"""What is counted over all rows: histograms, outliers, hashes of rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.data.row_hash import distinct
from leptonai.data.shards import BLOCKS

_BINS = 30
_NUMBERS = (FeatureType.NUMBER, FeatureType.INTEGER)


class Histogram:
    """Counts of the values of one column between bounds that are known before: three interquartile ranges beyond the quartiles."""

    def __init__(self, column: Column):
        self.name = column.name
        self._kind = column.type
        stats = column.stats
        self.fences: tuple[float, float] | None = None
        low, high = 0.0, float(stats.get("max_length") or 0)
        if self._kind in _NUMBERS and stats.get("75%") is not None:
            spread = stats["75%"] - stats["25%"]
            self.fences = (stats["25%"] - 1.5 * spread, stats["75%"] + 1.5 * spread)
            far = (stats["25%"] - 3 * spread, stats["75%"] + 3 * spread) if spread else (stats["min"], stats["max"])
            low, high = max(stats["min"], far[0]), min(stats["max"], far[1])
        elif self._kind is FeatureType.DATETIME and stats.get("min"):
            low, high = (float(np.datetime64(stats[word], "us").astype("int64")) for word in ("min", "max"))
        whole = self._kind is FeatureType.INTEGER and high - low < _BINS
        count = int(high - low) + 1 if whole else _BINS
        self.edges = (
            np.linspace(low - 0.5, high + 0.5, count + 1) if whole else np.linspace(low, high or 1.0, count + 1)
        )
        if self.edges[0] == self.edges[-1]:
            self.edges = np.array([low - 0.5, low + 0.5])
        self.counts = np.zeros(len(self.edges) - 1, np.int64)
        self.below = self.above = self.outliers = 0

    def add(self, values: pa.ChunkedArray) -> None:
        """Count more values."""
        if self._kind is FeatureType.TEXT:
            values = pc.utf8_length(values)
        elif self._kind is FeatureType.DATETIME:
            values = pc.cast(values, pa.int64())
        numbers = pc.cast(values.drop_null(), pa.float64(), safe=False).to_numpy()
        numbers = numbers[np.isfinite(numbers)]
        self.counts += np.histogram(numbers, self.edges)[0]
        self.below += int(np.count_nonzero(numbers < self.edges[0]))
        self.above += int(np.count_nonzero(numbers > self.edges[-1]))
        if self.fences is not None:
            self.outliers += int(np.count_nonzero((numbers < self.fences[0]) | (numbers > self.fences[1])))

    def told(self) -> dict[str, Any]:
        """Return edges and counts, and the outliers beyond Tukey's fences."""
        edges: list[Any] = self.edges.tolist()
        if self._kind is FeatureType.DATETIME:
            edges = [str(np.datetime64(int(edge), "us")) for edge in edges]
        found: dict[str, Any] = {
            "histogram": {"edges": edges, "counts": self.counts.tolist(), "below": self.below, "above": self.above}
        }
        if self.fences is not None:
            found["outliers"] = {"count": self.outliers, "low": self.fences[0], "high": self.fences[1]}
        return found


def histogram(column: Column) -> Histogram | None:
    """Return what counts the values of a column; None for one whose values are counted one by one, or not at all."""
    if column.type in (*BLOCKS, FeatureType.BOXES, FeatureType.CATEGORY, FeatureType.BOOLEAN):
        return None
    if column.type in _NUMBERS and column.stats.get("max") is None:
        return None
    if column.type is FeatureType.DATETIME and not column.stats.get("min"):
        return None
    return Histogram(column)


def repeated(hashes: np.ndarray) -> int:
    """Return how many rows are there already in an earlier row."""
    return len(hashes) - distinct(hashes)
