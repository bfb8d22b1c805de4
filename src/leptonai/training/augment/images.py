"""Changes of whole batches of images: float32 from 0 to 1, (rows, height, width, channels). Each returns the batch to go on with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.training.augment.draws import Draws
from leptonai.training.augment.spec import Blur, Colour, Crop, Cutout, Flip, Noise, Rotate, Shift

Array = NDArray[Any]


def flip(step: Flip, x: Array, draws: Draws) -> Array:
    """See `spec.Flip`."""
    for wanted, axis in ((step.horizontal, 2), (step.vertical, 1)):
        if wanted:
            rows = np.flatnonzero(draws.chosen(step.p))
            x[rows] = np.flip(x[rows], axis)
    return x


def shift(step: Shift, x: Array, draws: Draws) -> Array:
    """See `spec.Shift`; by whole pixels."""
    count, height, width, _ = x.shape
    chosen = draws.chosen(step.p)
    down = np.rint(draws.uniform(-step.by, step.by) * height).astype(np.int64) * chosen
    right = np.rint(draws.uniform(-step.by, step.by) * width).astype(np.int64) * chosen
    rows = np.arange(height) - down[:, None]
    columns = np.arange(width) - right[:, None]
    flat = (np.arange(count)[:, None] * height + rows.clip(0, height - 1))[:, :, None] * width
    moved: Array = x.reshape(-1, x.shape[3]).take(flat + columns.clip(0, width - 1)[:, None, :], axis=0)
    if step.fill == "zero":
        outside = (rows < 0) | (rows >= height)
        moved[outside] = 0
        beyond = (columns < 0) | (columns >= width)
        moved.transpose(0, 2, 1, 3)[beyond] = 0
    return moved


def rotate(step: Rotate, x: Array, draws: Draws) -> Array:
    """See `spec.Rotate`; bilinear."""
    angle = np.deg2rad(draws.uniform(-step.degrees, step.degrees)) * draws.chosen(step.p)
    cos, sin = np.cos(angle), np.sin(angle)
    return _warped(x, np.stack([cos, -sin, sin, cos], axis=1), np.zeros((len(x), 2), np.float32), step.fill)


def crop(step: Crop, x: Array, draws: Draws) -> Array:
    """See `spec.Crop`; bilinear."""
    side = 1 - draws.uniform(0, 1 - step.least) * draws.chosen(step.p)
    rows = np.arange(len(x))[:, None]
    for axis, first in ((1, draws.uniform()), (2, draws.uniform())):  # one after the other: lines stay lines
        last = x.shape[axis] - 1
        place = (first * (1 - side))[:, None] * last + np.arange(last + 1, dtype=np.float32) * side[:, None]
        near = np.minimum(place.astype(np.int64), max(0, last - 1))
        after = np.minimum(near + 1, last)
        share = (place - near).reshape(len(x), *((-1, 1, 1) if axis == 1 else (1, -1, 1)))
        if axis == 1:
            x = _between(x[rows, near], x[rows, after], share)
        else:
            lines = np.arange(x.shape[1])[None, :, None]
            here = rows[:, :, None]
            x = _between(x[here, lines, near[:, None]], x[here, lines, after[:, None]], share)
    return x


def _warped(x: Array, turn: Array, move: Array, fill: str) -> Array:
    """Return images whose pixel (row, column), counted from the centre, is that of `turn` @ (row, column) + `move` in `x`."""
    count, height, width, channels = x.shape
    if fill == "zero" or min(height, width) < 2:  # a border, at which places beyond it end
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="constant" if fill == "zero" else "edge")
    high, wide = x.shape[1], x.shape[2]
    rows = np.arange(height, dtype=np.float32)[None, :, None] - np.float32((height - 1) / 2)
    columns = np.arange(width, dtype=np.float32)[None, None, :] - np.float32((width - 1) / 2)
    one, two, three, four = (turn[:, i, None, None].astype(np.float32) for i in range(4))
    row = one * rows + (two * columns + (move[:, 0, None, None] + np.float32((high - 1) / 2)))
    column = three * rows + (four * columns + (move[:, 1, None, None] + np.float32((wide - 1) / 2)))
    row, column = row.clip(0, high - 1), column.clip(0, wide - 1)
    top, left = np.minimum(row.astype(np.int32), high - 2), np.minimum(column.astype(np.int32), wide - 2)
    down, right = row - top, column - left
    first = top * wide + left + (np.arange(count, dtype=np.int32) * (high * wide))[:, None, None]
    pixels: Array = x.reshape(-1)
    if channels > 1:  # single numbers are gathered three times as fast as rows of one
        pixels, down, right = x.reshape(-1, channels), down[..., None], right[..., None]
    upper = _between(pixels.take(first, axis=0), pixels.take(first + 1, axis=0), right)
    lower = _between(pixels.take(first + wide, axis=0), pixels.take(first + wide + 1, axis=0), right)
    return _between(upper, lower, down).reshape(count, height, width, channels)


def _between(one: Array, other: Array, share: Array) -> Array:
    other -= one
    other *= share
    other += one
    return other


def colour(step: Colour, x: Array, draws: Draws) -> Array:
    """See `spec.Colour`."""
    chosen = draws.chosen(step.p)

    def factor(most: float) -> Array:
        return (draws.uniform(-most, most) * chosen)[:, None, None, None]

    if step.saturation:
        change = factor(step.saturation)
        if x.shape[3] >= 3:
            grey = x[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
            x[..., :3] += (x[..., :3] - grey[..., None]) * change
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    contrast = 1 + factor(step.contrast)
    x *= contrast
    x += mean * (1 - contrast) + factor(step.brightness)
    return x.clip(0, 1, out=x)


def blur(step: Blur, x: Array, draws: Draws) -> Array:
    """See `spec.Blur`."""
    reach = min(max(1, round(2.5 * step.sigma)), min(x.shape[1:3]) - 1)
    sigma = np.maximum(draws.uniform(0.1, 1) * np.float32(step.sigma), 1e-3)
    away = np.arange(-reach, reach + 1, dtype=np.float32)
    weights = np.exp(-0.5 * np.square(away / sigma[:, None]))
    weights[~draws.chosen(step.p)] = away == 0
    weights /= weights.sum(axis=1, keepdims=True)
    for axis in (1, 2):
        room = [(0, 0)] * 4
        room[axis] = (reach, reach)
        wide = np.pad(x, room, mode="edge")
        x = np.zeros_like(x)
        for place in range(len(away)):
            there = [slice(None)] * 4
            there[axis] = slice(place, place + x.shape[axis])
            x += wide[tuple(there)] * weights[:, place, None, None, None]
    return x


def noise(step: Noise, x: Array, draws: Draws) -> Array:
    """See `spec.Noise`."""
    size = np.float32(step.std) * draws.chosen(step.p).astype(np.float32)
    x += draws.normal(x.shape[1:]) * size[:, None, None, None]
    return x.clip(0, 1, out=x)


def cutout(step: Cutout, x: Array, draws: Draws) -> Array:
    """See `spec.Cutout`."""
    chosen = draws.chosen(step.p)
    inside = rectangles(
        draws, x.shape[1:3], draws.uniform(0, step.share) * chosen, draws.uniform(0, step.share) * chosen
    )
    x *= ~inside[..., None]
    return x


def rectangles(draws: Draws, shape: tuple[int, ...], high: Array, wide: Array) -> Array:
    """Return (rows, height, width), true inside a rectangle whose sides are these shares, and which lies inside the image."""
    sides = []
    for length, share in zip(shape, (high, wide), strict=True):
        size = np.rint(share * length).astype(np.int64)
        first = np.floor(draws.uniform() * (length - size + 1)).astype(np.int64)
        places = np.arange(length)
        sides.append((places >= first[:, None]) & (places < (first + size)[:, None]))
    inside: Array = sides[0][:, :, None] & sides[1][:, None, :]
    return inside
