"""Where a model looks, told by hiding parts and asking again: works for every model that answers, however it is computed.

A part matters as much as the score of the class falls when it is hidden (occlusion: Zeiler & Fergus, ECCV 2014).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.evaluation.shapley import Scores

Array = NDArray[Any]
SIDE = 12  # squares along the longer side of a picture
WORDS = 200  # of a text that are hidden one by one
_AT_ONCE = 256


def of_picture(scores: Scores, row: Mapping[str, Array], column: str, of: int) -> Array:
    """Return by how much the score falls when each square has the picture's mean colour, (rows, columns) of squares.

    `row`: the columns of one row, each with a first axis of length 1; the picture is (1, height, width, channels).
    """
    image = row[column][0]
    height, width = image.shape[:2]
    side = max(1, -(-max(height, width) // SIDE))
    mean = image.mean(axis=(0, 1), keepdims=True).astype(image.dtype)
    down, across = -(-height // side), -(-width // side)
    hidden = np.repeat(image[None], down * across + 1, axis=0)
    for number in range(down * across):
        top, left = number // across * side, number % across * side
        hidden[number, top : top + side, left : left + side] = mean
    said = _asked(scores, row, column, hidden)[:, of]
    found: Array = (said[-1] - said[:-1]).reshape(down, across)
    return found


def of_text(scores: Scores, row: Mapping[str, Array], column: str, of: int) -> list[tuple[int, int, float]]:
    """Return by how much the score falls without each word: (start, end, fall). Of a long text the first `WORDS` words are told."""
    text = str(row[column][0] or "")
    places = [(found.start(), found.end()) for found in re.finditer(r"\S+", text)][:WORDS]
    without = np.empty(len(places) + 1, dtype=object)
    without[:] = [*(text[:start] + text[end:] for start, end in places), text]
    said = _asked(scores, row, column, without)[:, of]
    return [(start, end, float(said[-1] - one)) for (start, end), one in zip(places, said[:-1], strict=True)]


def _asked(scores: Scores, row: Mapping[str, Array], column: str, values: Array) -> Array:
    parts = []
    for at in range(0, len(values), _AT_ONCE):
        part = values[at : at + _AT_ONCE]
        batch = {name: np.repeat(given, len(part), axis=0) for name, given in row.items()} | {column: part}
        parts.append(np.asarray(scores(batch), dtype=np.float64).reshape(len(part), -1))
    return np.concatenate(parts)
