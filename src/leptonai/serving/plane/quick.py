"""The common request of the Open Inference Protocol in a third of the time: flat lists of numbers, parsed straight to arrays.

simdjson gives the numbers as a buffer, so no Python object is made for any of them. Whatever is not plain, or not right, is left
to the strict route (`v2.request`), which finds the words for it: here a request is either exactly right, or None.
"""

from math import prod
from typing import Any

import numpy as np
import simdjson

from leptonai.core.nouns import Signature, TensorSpec
from leptonai.serving.plane.v2 import Request

_PLAIN = ({"name", "shape", "datatype", "data"}, 4)
_FLOATS = {"FP32": np.float32, "FP64": np.float64}


class Quick:
    """Reads requests, one after the other; not to be shared by threads."""

    def __init__(self, signature: Signature):
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._outputs = tuple(spec.name for spec in signature.outputs)
        self._brackets = 1 + 2 * len(self._specs)  # inputs, and a shape and data for each: more of them are nested
        self._able = all(spec.datatype in (*_FLOATS, "INT64", "UINT8") for spec in signature.inputs)
        self._parser = simdjson.Parser()

    def request(self, body: bytes) -> Request | None:
        """Return the request, or None where the strict route has to look at it."""
        if not self._able or body.count(b"[") != self._brackets:
            return None
        try:
            return self._read(self._parser.parse(body))
        except (ValueError, TypeError, KeyError, RuntimeError, OverflowError):
            return None

    def _read(self, document: Any) -> Request | None:
        keys = list(document.keys())
        if keys == ["inputs"]:
            id = None
        elif sorted(keys) == ["id", "inputs"]:
            id = document["id"]
            if type(id) is not str:
                return None
        else:
            return None
        made: dict[str, Any] = {}
        rows = -1
        for tensor in document["inputs"]:
            names = list(tensor.keys())
            if len(names) != _PLAIN[1] or set(names) != _PLAIN[0]:
                return None
            spec = self._specs[tensor["name"]]
            found = _array(tensor, spec)
            if found is None or spec.name in made or rows not in (-1, len(found)):
                return None
            made[spec.name] = found
            rows = len(found)
        return Request(id, made, self._outputs) if len(made) == len(self._specs) else None


def _array(tensor: Any, spec: TensorSpec) -> Any:
    if tensor["datatype"] != spec.datatype:
        return None
    shape = tensor["shape"].as_list()
    if len(shape) != len(spec.shape):
        return None
    for want, got in zip(spec.shape, shape, strict=True):
        if type(got) is not int or got <= 0 or want not in (-1, got):
            return None
    data = tensor["data"]
    size = prod(shape)
    if len(data) != size:
        return None
    if (dtype := _FLOATS.get(spec.datatype)) is not None:
        found = np.frombuffer(data.as_buffer(of_type="d"), np.float64)
        if dtype is np.float32:
            with np.errstate(over="ignore"):
                found = found.astype(np.float32)
            if not np.isfinite(found).all():
                return None
    else:
        found = np.frombuffer(data.as_buffer(of_type="i"), np.int64)
        if spec.datatype == "UINT8":
            if found.min() < 0 or found.max() > 255:
                return None
            found = found.astype(np.uint8)
    return found.reshape(shape) if len(found) == size else None
