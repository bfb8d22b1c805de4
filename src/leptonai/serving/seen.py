"""A request that was looked at, with what went in and what came out, and how it goes from one process of a Site to another."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from leptonai.serving.frames import Frame


class Seen(NamedTuple):
    """One request that a version answered. The arrays are copies, whose first axis is the batch; of many rows the first ones."""

    service: str
    time: float  # when it was answered, in seconds of the wall clock
    id: str  # that its answer carried
    model: str  # the id of the Model
    version: str
    variant: str
    status: int
    seconds: float  # from its last byte to its answer
    rows: int  # that it had; the arrays may hold fewer
    key: str  # the name of the key it came with, "-" without
    inputs: dict[str, Any]
    outputs: dict[str, Any]  # empty for a request that failed

    @property
    def bytes(self) -> int:
        """About what its arrays take in memory."""
        return sum(_size(found) for found in (*self.inputs.values(), *self.outputs.values()))


def pack(entries: Iterable[Seen]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return what a message's header says of them, and its parts."""
    said: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for entry in entries:
        line = entry._asdict()
        for side in ("inputs", "outputs"):
            line[side] = [_about(name, found, parts) for name, found in line[side].items()]
        said.append(line)
    return said, parts


def unpack(said: Iterable[Mapping[str, Any]], frame: Frame) -> list[Seen]:
    """Return the requests of a message. Arrays of numbers are read-only views of its bytes."""
    parts = iter(frame.parts)
    found = []
    for line in said:
        sides = {side: {about["name"]: _made(about, parts) for about in line[side]} for side in ("inputs", "outputs")}
        found.append(Seen(**{**line, **sides}))
    return found


def copied(arrays: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return copies of the first rows: views would keep the whole batch, or the body it came in."""
    return {name: np.array(found[:rows]) for name, found in arrays.items()}


def _about(name: str, found: Any, parts: list[bytes]) -> dict[str, Any]:
    about: dict[str, Any] = {"name": name, "shape": list(found.shape)}
    if found.dtype == np.object_:
        return {**about, "dtype": "text", "values": found.ravel().tolist()}
    parts.append(np.ascontiguousarray(found).tobytes())
    return {**about, "dtype": found.dtype.str}


def _made(about: Mapping[str, Any], parts: Any) -> Any:
    if about["dtype"] == "text":
        made = np.empty(len(about["values"]), object)
        made[:] = about["values"]
    else:
        made = np.frombuffer(next(parts), np.dtype(about["dtype"]))
    return made.reshape(about["shape"])


def _size(found: Any) -> int:
    if found.dtype == np.object_:
        return sum(64 + len(value) for value in found.ravel().tolist() if isinstance(value, str))
    return int(found.nbytes)
