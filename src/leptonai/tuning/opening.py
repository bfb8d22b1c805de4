"""The first trials of a study: the middle of the space, then points that lie far from each other.

Who gives a range mostly expects the best within it and not at its edge, so the middle comes first, as in SMAC and Ax. The points after
it are those of an additive recurrence by the generalised golden ratio (Roberts 2018, "The unreasonable effectiveness of quasirandom
sequences"), begun where the seed says: they leave no part of the space out, as random ones do.
"""

import random
from collections.abc import Sequence
from typing import Any

from leptonai.tuning.space import Space, is_active
from leptonai.tuning.spec import Dimension

POINTS = 10  # before what was found says where to look; as many as Optuna's samplers draw by chance


def opening(space: Space, order: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Return the settings of the first trials. `order`: of the names, as `space.check` returns it."""
    begin = random.Random(seed)  # noqa: S311  no secret
    offsets = [begin.random() for _ in order]
    step = [_ratio(len(order)) ** -(at + 1) for at in range(len(order))]
    found = [_point(space, order, [0.5] * len(order))]
    for number in range(1, POINTS):
        place = [(offset + number * by) % 1 for offset, by in zip(offsets, step, strict=True)]
        point = _point(space, order, place)
        if point not in found:
            found.append(point)
    return found


def _ratio(dimensions: int) -> float:
    """Return the root above 1 of x^(d+1) = x + 1."""
    found = 1.5
    for _ in range(60):
        found = (1 + found) ** (1 / (dimensions + 1))
    return float(found)


def _point(space: Space, order: Sequence[str], place: Sequence[float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, share in zip(order, place, strict=True):
        if is_active(space[name], found):
            found[name] = value_at(space[name], share)
    return found


def value_at(dimension: Dimension, share: float) -> Any:
    """Return the value at a share, 0 to below 1, of a dimension."""
    if dimension.kind == "choice":
        chosen = dimension.choices[int(share * len(dimension.choices))]
        return list(chosen) if isinstance(chosen, tuple) else chosen
    low, high = dimension.low or 0.0, dimension.high or 0.0
    step = dimension.step or (1.0 if dimension.kind == "int" and not dimension.log else 0.0)
    if step:
        value = low + step * int(share * (int((high - low) / step + 1e-9) + 1))
    elif dimension.log:
        top = high + 0.5 if dimension.kind == "int" else high
        bottom = low - 0.5 if dimension.kind == "int" else low
        value = bottom * (top / bottom) ** share
    else:
        value = low + share * (high - low)
    if dimension.kind == "int":
        value = round(value)
    value = min(max(value, low), high)
    return int(value) if dimension.kind == "int" else float(value)
