"""Changes of whole batches of images: float32 from 0 to 1, (rows, height, width, channels). Each returns the batch to go on with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.training.augment.draws import Draws
from leptonai.training.augment.spec import Blur, Colour, Crop, Cutout, Flip, Noise, Rotate, Shift

Array = NDArray[Any]
_LARGE = 64 * 64  # pixels of an image from which it is worth a look of its own


def flip(step: Flip, x: Array, draws: Draws) -> Array:
    """See `spec.Flip`."""
    across, over = (np.flatnonzero(chosen) for chosen in flipped(step, draws))
    width, channels = x.shape[2:]
    order = (
        np.arange(width)[::-1, None] * channels + np.arange(channels)
    ).ravel()  # three times as fast as a view turned round
    some = x[across]
    x[across] = some.reshape(*some.shape[:2], len(order)).take(order, axis=2).reshape(some.shape)
    x[over] = x[over][:, ::-1]
    return x


def flipped(step: Flip, draws: Draws) -> tuple[Array, Array]:
    """Return which images (bool) are mirrored left to right, and which upside down."""
    none = np.zeros(draws.count, bool)
    return draws.chosen(step.p) if step.horizontal else none, draws.chosen(step.p) if step.vertical else none


def shift(step: Shift, x: Array, draws: Draws) -> Array:
    """See `spec.Shift`; by whole pixels."""
    count, height, width, _ = x.shape
    down, right = shifted(step, x.shape[1:3], draws)
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


def shifted(step: Shift, shape: tuple[int, ...], draws: Draws) -> tuple[Array, Array]:
    """Return by how many pixels images of (height, width) move down and to the right."""
    chosen = draws.chosen(step.p)
    down = np.rint(draws.uniform(-step.by, step.by) * shape[0]).astype(np.int64) * chosen
    return down, np.rint(draws.uniform(-step.by, step.by) * shape[1]).astype(np.int64) * chosen


def rotate(step: Rotate, x: Array, draws: Draws) -> Array:
    """See `spec.Rotate`; bilinear."""
    angle = turned(step, draws)
    cos, sin = np.cos(angle), np.sin(angle)
    return _warped(x, np.stack([cos, -sin, sin, cos], axis=1), np.zeros((len(x), 2), np.float32), step.fill)


def turned(step: Rotate, draws: Draws) -> Array:
    """Return by which angle, in radians, each image is turned; what was to the right goes down."""
    angle: Array = np.deg2rad(draws.uniform(-step.degrees, step.degrees)) * draws.chosen(step.p)
    return angle


def crop(step: Crop, x: Array, draws: Draws) -> Array:
    """See `spec.Crop`; bilinear."""
    side, *firsts = cropped(step, draws)
    large = x.shape[1] * x.shape[2] >= _LARGE
    rows = np.arange(len(x))[:, None]
    for axis, first in zip((1, 2), firsts, strict=True):  # one after the other: lines stay lines
        last = x.shape[axis] - 1
        place = (first * (1 - side))[:, None] * last + np.arange(last + 1, dtype=np.float32) * side[:, None]
        near = np.minimum(place.astype(np.int64), max(0, last - 1))
        after = np.minimum(near + 1, last)
        share = (place - near).reshape(len(x), *((-1, 1, 1) if axis == 1 else (1, -1, 1)))
        if large:  # image by image it is the same, and takes a half to a fifth of the time
            x = np.stack([_stretched(*one, axis - 1) for one in zip(x, near, after, share, strict=True)])
        elif axis == 1:
            x = _between(x[rows, near], x[rows, after], share)
        else:
            lines = np.arange(x.shape[1])[None, :, None]
            here = rows[:, :, None]
            x = _between(x[here, lines, near[:, None]], x[here, lines, after[:, None]], share)
    return x


def _stretched(image: Array, near: Array, after: Array, share: Array, axis: int) -> Array:
    """Return an image (height, width, channels) with other lines along an axis, each between two of its own."""
    if axis == 0:
        return _between(image.take(near, axis=0), image.take(after, axis=0), share)
    height, _, channels = image.shape
    flat = image.reshape(height, -1)
    several = np.arange(channels)
    one, other = (flat.take((lines[:, None] * channels + several).ravel(), axis=1) for lines in (near, after))
    return _between(one, other, np.repeat(share.ravel(), channels)).reshape(height, -1, channels)


def cropped(step: Crop, draws: Draws) -> tuple[Array, Array, Array]:
    """Return the sides of the parts, as shares, and where in the room that is left they begin: from the top, from the left."""
    side = 1 - draws.uniform(0, 1 - step.least) * draws.chosen(step.p)
    return side, draws.uniform(), draws.uniform()


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
    x *= ~filled(blackened(step, x.shape[1:3], draws), x.shape[1:3])[..., None]
    return x


def blackened(step: Cutout, shape: tuple[int, ...], draws: Draws) -> Array:
    """Return the rectangles that are blackened, as `rectangles` does."""
    chosen = draws.chosen(step.p)
    return rectangles(draws, shape, draws.uniform(0, step.share) * chosen, draws.uniform(0, step.share) * chosen)


def rectangles(draws: Draws, shape: tuple[int, ...], high: Array, wide: Array) -> Array:
    """Return rectangles whose sides are these shares, and which lie inside the image: (rows, 4) pixels, top, bottom, left, right."""
    edges = []
    for length, share in zip(shape, (high, wide), strict=True):
        size = np.rint(share * length).astype(np.int64)
        first = np.floor(draws.uniform() * (length - size + 1)).astype(np.int64)
        edges += [first, first + size]
    return np.stack(edges, axis=1)


def filled(edges: Array, shape: tuple[int, ...]) -> Array:
    """Return (rows, height, width), true inside the rectangles."""
    top, bottom, left, right = (edges[:, at, None] for at in range(4))
    down, along = np.arange(shape[0]), np.arange(shape[1])
    high, wide = (down >= top) & (down < bottom), (along >= left) & (along < right)
    inside: Array = high[:, :, None] & wide[:, None, :]
    return inside
