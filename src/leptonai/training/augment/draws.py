"""Random numbers that follow from a place: seed, epoch, row and step, whatever batch the row comes in.

SplitMix64 (Steele, Lea and Flood 2014), counted up from a key of its own for each row: no generator is made, and none is saved.
"""

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_24 = np.float32(2**-24)


def _mixed(bits: Array) -> Array:
    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
        bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    mixed: Array = bits ^ (bits >> np.uint64(31))
    return mixed


class Draws:
    """Draws for the rows at `start` to `start + count` of an epoch. Each call gives fresh numbers, (count, *shape)."""

    def __init__(self, seed: int, epoch: int, start: int, count: int):
        self.count = count
        places = np.arange(start, start + count, dtype=np.uint64)
        with np.errstate(over="ignore"):
            key = _mixed(np.array([seed], np.uint64) + _GOLDEN)
            key = _mixed(key ^ np.array([epoch], np.uint64) * _FIRST)
            self._rows = _mixed(key + (places + np.uint64(1)) * _GOLDEN)
        self._calls = 0

    def step(self, number: int) -> None:
        """Go to the draws of a step: what the steps before it drew does not matter to it."""
        self._calls = (number + 1) << 16

    def again(self) -> "Draws":
        """Return what gives the draws that come next once more, for what goes with what is changed by them."""
        return copy(self)

    def _bits(self, shape: tuple[int, ...]) -> Array:
        self._calls += 1
        width = int(np.prod(shape, dtype=np.int64))
        with np.errstate(over="ignore"):
            first = _mixed(self._rows + np.uint64(self._calls) * _SECOND)
            places = np.arange(1, width + 1, dtype=np.uint64) * _GOLDEN
            return _mixed((first[:, None] + places).reshape(-1))

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Array:
        """Return float32 numbers from `low` up to `high`."""
        found = (self._bits(shape) >> np.uint64(40)).astype(np.float32) * _24
        return (np.float32(low) + found * np.float32(high - low)).reshape(self.count, *shape)

    def normal(self, shape: tuple[int, ...] = ()) -> Array:
        """Return float32 numbers of mean 0 and deviation 1 (Box and Muller 1958)."""
        width = int(np.prod(shape, dtype=np.int64))
        half = -(-width // 2)
        bits = self._bits((half,))
        radius = np.sqrt(-2 * np.log(((bits >> np.uint64(40)).astype(np.float32) + 1) * _24))
        angle = (bits & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2 * np.pi * 2**-24)
        pairs = np.empty((self.count, 2, half), np.float32)
        pairs[:, 0] = (radius * np.cos(angle)).reshape(self.count, half)
        pairs[:, 1] = (radius * np.sin(angle)).reshape(self.count, half)
        return pairs.reshape(self.count, 2 * half)[:, :width].reshape(self.count, *shape)

    def chosen(self, p: float) -> Array:
        """Return which rows (bool) are changed, with the chance `p`."""
        return self.uniform() < p if p < 1 else np.ones(self.count, bool)

    def partners(self) -> Array:
        """Return for each row another one of the batch (itself where it is alone)."""
        order = np.argsort(self.uniform(), kind="stable")
        found = np.empty(self.count, np.int64)
        found[order] = np.roll(order, 1)
        return found

    def beta(self, alpha: float) -> Array:
        """Return weights (float32) of Beta(alpha, alpha)."""
        from scipy.special import betaincinv

        return np.asarray(betaincinv(alpha, alpha, self.uniform().astype(np.float64)), np.float32)
