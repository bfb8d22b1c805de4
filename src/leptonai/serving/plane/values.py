"""JSON values become arrays, strictly: text is no number, true is no number, and nothing is rounded away in silence."""

from collections.abc import Callable, Sequence
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import numpy as np

_JSON = {str: "text", int: "a number", float: "a number", type(None): "null", list: "a list", dict: "an object"}


class Misfit(Exception):
    """A value that does not fit, with its place in the list and what would be right."""

    def __init__(self, index: int, message: str):
        super().__init__(message)
        self.index = index
        self.message = message


class Datatype(NamedTuple):
    """A datatype of the Open Inference Protocol: what it is in NumPy, and which JSON values it takes."""

    numpy: Any
    takes: frozenset[type]
    right: str


DATATYPES = {
    "BOOL": Datatype(np.bool_, frozenset({bool}), "true or false"),
    "UINT8": Datatype(np.uint8, frozenset({int}), "a whole number from 0 to 255"),
    "INT64": Datatype(np.int64, frozenset({int}), "a whole number of 64 bits"),
    "FP32": Datatype(np.float32, frozenset({int, float}), "a number that float32 can hold"),
    "FP64": Datatype(np.float64, frozenset({int, float}), "a number"),
    "BYTES": Datatype(np.object_, frozenset({str}), "text"),
}


def array(values: list[Any], datatype: str, missing: Any = ...) -> Any:
    """Return a flat list as an array; null becomes `missing` where that is given. Raises `Misfit`."""
    kind = DATATYPES[datatype]
    found = set(map(type, values))
    gaps = type(None) in found and missing is not ...
    if not found - ({type(None)} if gaps else set()) <= kind.takes:
        _refuse(values, kind, missing)
    if gaps:
        values = [missing if value is None else value for value in values]
    if datatype == "BYTES":
        made = np.empty(len(values), object)
        made[:] = values
        return made
    try:
        if datatype == "FP32":
            with np.errstate(over="ignore"):
                made = np.array(values, np.float32)
        else:
            made = np.array(values, np.int64 if datatype == "UINT8" else kind.numpy)
    except OverflowError:
        _refuse(values, kind, missing, _fits_int64 if datatype in ("INT64", "UINT8") else _fits_float)
        raise
    if datatype == "UINT8":
        if len(made) and (made.min() < 0 or made.max() > 255):
            _refuse(values, kind, missing, lambda value: 0 <= value <= 255)
        return made.astype(np.uint8)
    if datatype == "FP32" and np.isinf(made).any():  # beyond float64 it is no JSON
        _refuse(values, kind, missing, lambda value: abs(value) <= float(np.finfo(kind.numpy).max))
    return made


def flat(data: Any, shape: Sequence[int]) -> list[Any]:
    """Return nested lists, or a list that is flat already, as one flat list in row-major order. Raises `Misfit`.

    Every length is checked against `shape` before anything is made, so a shape can claim nothing that was not sent.
    """
    if type(data) is not list:
        raise Misfit(0, f"must be a list, not {say(data)}")
    if not data or type(data[0]) is not list:
        if len(data) != prod(shape):
            raise Misfit(0, f"holds {len(data)} values where the shape {list(shape)} needs {prod(shape)}")
        return data
    level: list[Any] = [data]
    for axis, length in enumerate(shape):
        for index, part in enumerate(level):
            if type(part) is not list or len(part) != length:
                raise Misfit(
                    index,
                    f"is not of the shape {list(shape)}: on axis {axis} there is {_length(part)} instead of {length}",
                )
        level = list(chain.from_iterable(level))
    return level


def say(value: Any) -> str:
    """Return a JSON value for people: short, and with what it is."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is str:
        return f"the text {value[:40]!r}" + ("…" if len(value) > 40 else "")
    if type(value) in (int, float):
        return f"the number {value}"[:60]
    return _JSON.get(type(value), type(value).__name__)


def _length(part: Any) -> str:
    return f"a list of {len(part)}" if type(part) is list else say(part)


def _refuse(values: list[Any], kind: Datatype, missing: Any, fits: Callable[[Any], bool] = lambda _: True) -> None:
    for index, value in enumerate(values):
        if value is None and missing is not ...:
            continue
        if type(value) not in kind.takes or not fits(value):
            raise Misfit(index, f"{say(value)} is given where {kind.right} is needed")


def _fits_int64(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _fits_float(value: float) -> bool:
    return abs(value) < 1e308
