"""A split of a tree by categories, as comparisons of their places one after the other, which every tree of ONNX has.

Each comparison is true for a run of places that go the same way; the last is false for the rest. ONNX Runtime lets several comparisons
lead to one node where they are true, and only there.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """A comparison, float32: at most this, and nothing is further left. What is missing goes as the last one says, or an earlier one."""

    at_most: float
    left: bool  # where it leads when it is true: the left child of the split, or the right one
    takes_missing: bool


def steps(sides: Sequence[bool], missing: bool) -> tuple[Step, ...]:
    """Return a split as comparisons; the last one, where false, leads to the other child than where it is true.

    `sides`: whether the places -1 (and all below), 0, 1 … go left; the last stands for all beyond. A place between two whole numbers goes
    as the smaller of them. `missing`: whether NaN goes left. Raises `ValueError` where all go the same way.
    """
    ends = [place for place, (left, after) in enumerate(pairwise(sides)) if left != after]
    if not ends:
        raise ValueError("a split by categories that sends all of them one way")
    return tuple(Step(_below(end), sides[end], sides[end] == missing) for end in ends)


def _below(end: int) -> float:
    """Return the largest float32 of a place's own; places are counted from -1."""
    return -1.0 if end == 0 else float(np.nextafter(np.float32(end), np.float32(-np.inf)))
