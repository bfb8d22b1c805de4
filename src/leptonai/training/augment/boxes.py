"""Boxes that go where what they hold goes, when an image is moved: (class, x1, y1, x2, y2), float32, in shares of its sides."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.training.augment.draws import Draws
from leptonai.training.augment.images import blackened, cropped, flipped, shifted, turned
from leptonai.training.augment.spec import Crop, Cutout, Flip, Rotate, Shift

Array = NDArray[Any]
MOVES = (Flip, Shift, Rotate, Crop, Cutout)
"""The steps that boxes follow; all others leave everything where it is."""

SEEN = 0.1  # of a box at least this share must be left of it, else nobody could tell what it holds


def follow(step: Any, boxes: Array, shape: tuple[int, ...], draws: Draws) -> Array:
    """Return the boxes (object array: for each row (count, 5)) of images of (height, width) that `step` changes by these draws.

    What of a box leaves the image is cut off; a box of which less than a tenth is left is dropped. A box that is turned becomes
    the smallest upright one around it.
    """
    if isinstance(step, Cutout):
        return _uncovered(boxes, blackened(step, shape, draws) / np.array([shape[0], shape[0], shape[1], shape[1]]))
    turns = _turns(step, shape, draws)
    found = np.empty(len(boxes), object)
    for row, given in enumerate(boxes):
        found[row] = _moved(given, turns[row]) if len(given) else given
    return found


def _turns(step: Any, shape: tuple[int, ...], draws: Draws) -> Array:
    """Return (rows, 2, 3): what takes a point (x, y, 1), in shares, to where it is shown afterwards."""
    height, width = shape
    found = np.zeros((draws.count, 2, 3))
    found[:, 0, 0] = found[:, 1, 1] = 1
    if isinstance(step, Flip):
        for axis, chosen in enumerate(flipped(step, draws)):
            found[chosen, axis, axis], found[chosen, axis, 2] = -1, 1
    elif isinstance(step, Shift):
        down, right = shifted(step, shape, draws)
        found[:, 0, 2], found[:, 1, 2] = right / width, down / height
    elif isinstance(step, Rotate):
        angle = turned(step, draws).astype(np.float64)
        cos, sin = (
            np.cos(angle),
            np.sin(angle),
        )  # pixels turn about the centre, and their sides need not be shares of one length
        found[:, 0, 0], found[:, 0, 1] = cos, -sin * height / width
        found[:, 1, 0], found[:, 1, 1] = sin * width / height, cos
        found[:, :, 2] = 0.5 - 0.5 * found[:, :, :2].sum(axis=2)
    else:
        side, top, left = (draw.astype(np.float64) for draw in cropped(step, draws))
        for axis, first, length in (
            (0, left, width),
            (1, top, height),
        ):  # `crop` counts from the middle of the first pixel
            begins = (0.5 * (1 - side) + first * (1 - side) * (length - 1)) / length
            found[:, axis, axis], found[:, axis, 2] = 1 / side, -begins / side
    return found


def _moved(boxes: Array, turn: Array) -> Array:
    x, y = boxes[:, [1, 3, 1, 3]].astype(np.float64), boxes[:, [2, 2, 4, 4]].astype(np.float64)
    corners = [turn[axis, 0] * x + turn[axis, 1] * y + turn[axis, 2] for axis in (0, 1)]
    low = np.stack([corner.min(axis=1) for corner in corners], axis=1)
    high = np.stack([corner.max(axis=1) for corner in corners], axis=1)
    left, whole = (high.clip(0, 1) - low.clip(0, 1)).prod(axis=1), (high - low).prod(axis=1)
    found: Array = np.concatenate([boxes[:, :1], low.clip(0, 1), high.clip(0, 1)], axis=1).astype(np.float32)
    kept: Array = found[(left > 0) & (left >= SEEN * whole)]
    return kept


def _uncovered(boxes: Array, edges: Array) -> Array:
    """Return the boxes of which enough lies outside of a rectangle: top, bottom, left, right."""
    found = np.empty(len(boxes), object)
    for row, given in enumerate(boxes):
        top, bottom, left, right = edges[row]
        high = (given[:, 4].clip(top, bottom) - given[:, 2].clip(top, bottom)).astype(np.float64)
        wide = given[:, 3].clip(left, right) - given[:, 1].clip(left, right)
        area = (given[:, 3] - given[:, 1]) * (given[:, 4] - given[:, 2])
        found[row] = given[area - high * wide >= SEEN * area]
    return found
