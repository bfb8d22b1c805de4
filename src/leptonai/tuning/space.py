"""Spaces: what contradicts in one, which settings are varied together, and how a setting is found again in another space."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.tuning.spec import Dimension

Space = Mapping[str, Dimension]
MOST_POINTS = 100_000  # of a grid


def check(space: Space) -> list[str]:
    """Return the names in an order in which each comes after those its `when` looks at. Raises `Invalid`."""
    if not space:
        raise Invalid(
            "space: it is empty, so there is nothing to tune; name settings with their ranges, such as "
            '{"learning_rate": (1e-4, 1e-1, "log")}',
            errors=[FieldError("space", "at least one setting")],
        )
    for name, dimension in space.items():
        for other, wanted in dimension.when.items():
            _check_when(space, name, other, wanted)
    order: list[str] = []
    waiting = dict(space)
    while waiting:
        ready = [name for name, found in waiting.items() if all(other in order for other in found.when)]
        if not ready:
            names = ", ".join(sorted(waiting))
            raise Invalid(
                f"space: {names} each wait for another: no setting's `when` may lead back to itself",
                errors=[FieldError(f"space.{min(waiting)}.when", "no circle")],
            )
        order += ready
        for name in ready:
            del waiting[name]
    return order


def _check_when(space: Space, name: str, other: str, wanted: tuple[Any, ...]) -> None:
    field = f"space.{name}.when"
    if other not in space or other == name:
        raise Invalid(
            f"{field}: there is no other setting {other!r} in the space; it holds {', '.join(space)}",
            errors=[FieldError(field, f"one of {', '.join(space)}")],
        )
    asked = space[other]
    if asked.kind != "choice":
        raise Invalid(
            f"{field}: {other!r} is a range, and `when` looks at choices only",
            errors=[FieldError(field, "a setting with choices")],
        )
    if gone := [value for value in wanted if not any(is_same(value, one) for one in asked.choices)]:
        known = ", ".join(map(repr, asked.choices))
        raise Invalid(
            f"{field}: {other!r} is never {gone[0]!r}, so {name} would never be tried; it is one of {known}",
            errors=[FieldError(field, f"one of {known}")],
        )
    if not wanted:
        raise Invalid(f"{field}: it names no value of {other!r}", errors=[FieldError(field, "at least one value")])


def is_same(a: Any, b: Any) -> bool:
    """Whether two settings are one: 1 and 1.0 are, 1 and True are not, a list and a tuple may be."""
    a, b = (tuple(value) if isinstance(value, list) else value for value in (a, b))
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def is_active(dimension: Dimension, params: Mapping[str, Any]) -> bool:
    """Whether a setting is varied beside these."""
    return all(
        other in params and any(is_same(params[other], value) for value in wanted)
        for other, wanted in dimension.when.items()
    )


def fit(dimension: Dimension, value: Any) -> Any:
    """Return the value as the dimension has it: an index of a choice, else a number. Raises `ValueError` where it has none such."""
    if dimension.kind == "choice":
        found = [at for at, one in enumerate(dimension.choices) if is_same(one, value)]
        if not found:
            raise ValueError(f"{value!r} is none of its choices")
        return found[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    if not (dimension.low or 0) <= value <= (dimension.high or 0):
        raise ValueError(f"{value:g} is not from {dimension.low:g} to {dimension.high:g}")
    if dimension.kind == "int" and value != int(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(value) if dimension.kind == "int" else float(value)


def placed(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of another study as those of this space. Raises `ValueError` for what is not in it, or is missing."""
    found: dict[str, Any] = {}
    for name in check(space):
        if not is_active(space[name], params):
            continue
        if name not in params:
            raise ValueError(f"{name} is not given")
        try:
            found[name] = fit(space[name], params[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if more := [name for name in params if name not in found]:
        raise ValueError(f"{more[0]} is not in the space, or not beside the others")
    return found


def grid(space: Space) -> list[dict[str, Any]]:
    """Return all points of a space. Raises `Invalid` where it has ranges without steps, or too many points."""
    order = check(space)
    axes = {name: _axis(name, space[name]) for name in order}
    if (count := math.prod(len(axis) for axis in axes.values())) > MOST_POINTS:
        raise Invalid(
            f"sampler: a grid of this space has up to {count:,} points, and {MOST_POINTS:,} may be looked at: take fewer "
            "values, or the sampler tpe",
            errors=[FieldError("sampler", "a smaller space")],
        )
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for point in _points(space, order, axes):
        found.setdefault(tuple(map(str, point.items())), point)
    return list(found.values())


def _points(space: Space, order: list[str], axes: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*(axes[name] for name in order)):
        point: dict[str, Any] = {}
        for name, value in zip(order, values, strict=True):
            if is_active(space[name], point):
                point[name] = value
        yield point


def _axis(name: str, dimension: Dimension) -> list[Any]:
    if dimension.kind == "choice":
        return [list(value) if isinstance(value, tuple) else value for value in dimension.choices]
    low, high = dimension.low or 0.0, dimension.high or 0.0
    step = dimension.step or (1.0 if dimension.kind == "int" and not dimension.log else 0.0)
    if not step and low != high:
        raise Invalid(
            f"sampler: a grid needs the values of {name}, which is a range: give a step, or list them",
            errors=[FieldError(f"space.{name}.step", "a step")],
        )
    count = int((high - low) / step + 1e-9) + 1 if step else 1
    if count > MOST_POINTS:
        raise Invalid(f"sampler: {name} alone has {count:,} values, too many for a grid")
    values = [low + at * step for at in range(count)]
    return [int(value) for value in values] if dimension.kind == "int" else values
