"""Steps on images and signals."""

from typing import Any

import numpy as np
import pyarrow as pa

from leptonai.core.errors import FieldError, Invalid
from leptonai.data import spec_clean as spec
from leptonai.data.blocks import as_array, block
from leptonai.data.cleaning.action import Action, Moved, replaced
from leptonai.data.cleaning.plan import Planned


class DenoiseImages(Action):
    """Median or Gaussian filter on each channel of each image."""

    step: spec.DenoiseImages

    def apply(self, table: pa.Table) -> Moved:
        """Filter."""
        from scipy import ndimage

        after = table
        for name in self.takes:
            column = self.planned.before[name]
            images = as_array(table[name], column.dtype, column.shape)
            if self.step.by == "median":
                found = ndimage.median_filter(images, size=(1, self.step.size, self.step.size, 1), mode="nearest")
            else:
                spread = (0, self.step.sigma, self.step.sigma, 0)
                smooth = ndimage.gaussian_filter(images.astype("float32"), spread, mode="nearest")
                found = np.clip(np.rint(smooth), 0, 255).astype("uint8")
            after = replaced(after, name, block(name, found))
        return Moved(table, after)


class Smooth(Action):
    """Savitzky-Golay on tensors row by row, and on columns of numbers along the rows.

    Of a column, as many rows are held back as the filter looks ahead; the result is that of the whole column at once.
    """

    step: spec.Smooth

    def __init__(self, planned: Planned):
        super().__init__(planned)
        self._series = [name for name in self.takes if not planned.before[name].shape]
        self._held: pa.Table | None = None
        self._given = 0  # rows in front of what is held that went on already

    def begin(self) -> None:
        """Forget."""
        self._held, self._given = None, 0

    def apply(self, table: pa.Table) -> Moved:
        """Filter; of series the last rows wait for those that follow."""
        if not self._series:
            return Moved(table, self._filtered(table))
        held = table if self._held is None else pa.concat_tables([self._held, table])
        ahead = self.step.window // 2
        if held.num_rows < self.step.window + ahead:
            self._held = held
            return Moved(None, table.slice(0, 0))
        count = held.num_rows - ahead - self._given
        answer = self._part(held, count)
        kept = min(held.num_rows, self.step.window + ahead)
        self._held = held.slice(held.num_rows - kept)
        self._given = kept - ahead
        return answer

    def _part(self, held: pa.Table, count: int) -> Moved:
        after = self._filtered(held).slice(self._given, count)
        return Moved(held.slice(self._given, count), after)

    def rest(self) -> Moved | None:
        """Return the rows that were held back."""
        if self._held is None:
            return None
        if self._held.num_rows < self.step.window:
            raise Invalid(
                f"smooth: there are {self._held.num_rows} rows, less than the window of {self.step.window}: use a shorter one",
                errors=[FieldError("window", f"at most {self._held.num_rows}")],
            )
        return self._part(self._held, self._held.num_rows - self._given)

    def _filtered(self, table: pa.Table) -> pa.Table:
        for name in self.takes:
            column = self.planned.before[name]
            if column.shape:
                values = as_array(table[name], column.dtype, column.shape)
                found: Any = block(name, self._savgol(values.astype("float64"), 1).astype(column.dtype))
            else:
                found = self._series_of(table[name])
            table = replaced(table, name, found)
        return table

    def _series_of(self, values: pa.ChunkedArray) -> pa.Array:
        """Return a smooth series; a missing value is interpolated for its neighbours and stays missing."""
        numbers = values.to_numpy().astype("float64")
        known = np.isfinite(numbers)
        if not known.any():
            return pa.array(numbers, from_pandas=True)
        places = np.arange(len(numbers))
        smooth = self._savgol(np.interp(places, places[known], numbers[known]), 0)
        return pa.array(np.where(known, smooth, numbers), from_pandas=True)

    def _savgol(self, values: np.ndarray, axis: int) -> np.ndarray:
        from scipy.signal import savgol_filter

        return np.asarray(savgol_filter(values, self.step.window, self.step.order, axis=axis))
