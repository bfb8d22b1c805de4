"""The common request of the Open Inference Protocol in a third of the time: flat lists of numbers, parsed straight to arrays.

simdjson gives the numbers as a buffer, so no Python object is made for any of them. A caller sends the same words around other
numbers again and again: what they mean is remembered. Whatever is not plain, or not right, is left to the strict route
(`v2.request`), which finds the words for it: here a request is either exactly right, or None.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import simdjson

from leptonai.core.signature import Signature, TensorSpec
from leptonai.serving.plane.v2 import Request

_ONE = 3  # brackets in a request with one input
_PLAIN = ({"name", "shape", "datatype", "data"}, 4)
_FLOATS = {"FP32": np.float32, "FP64": np.float64}
_READ = (*_FLOATS, "INT64", "UINT8")
_LARGEST = float(np.finfo(np.float32).max)
_REMEMBERED = 512  # forms of requests
_FORM_BYTES = 2048  # of one that is remembered
_PLAIN_BYTES = 32 << 10  # of a request that is read together with others
_PARSER = simdjson.Parser()  # one for all models of a process: its memory is warm whichever is called


class Tensor(NamedTuple):
    """Where one raw tensor lies behind the JSON of a request of the binary extension."""

    name: str
    dtype: Any
    shape: list[int]
    values: int
    start: int


class Words:
    """What the words of a request say, whatever its numbers. `plain`: whether it has a row, and asks for nothing of its own."""

    __slots__ = ("asked", "plain")

    def __init__(self, asked: Request, *, plain: bool):
        self.asked = asked
        self.plain = plain


class Form(Words):
    """Those of the binary extension. `tensors`: where each lies; `size`: how many bytes they need."""

    __slots__ = ("size", "tensors")

    def __init__(self, asked: Request, tensors: tuple[Tensor, ...], size: int, *, plain: bool):
        super().__init__(asked, plain=plain and asked.seconds is None and all(one.shape[0] == 1 for one in tensors))
        self.tensors = tensors
        self.size = size

    def inputs(self, pieces: Sequence[bytes]) -> dict[str, Any]:
        """Return the tensors of requests with these words, one row of each. `pieces`: the bytes behind their words."""
        rows = np.frombuffer(b"".join(pieces), np.uint8).reshape(len(pieces), self.size)
        made = {}
        for name, dtype, shape, count, start in self.tensors:
            found = np.ascontiguousarray(rows[:, start : start + count * dtype.itemsize])
            made[name] = found.view(dtype).reshape(len(pieces), *shape[1:])
        return made


class Around(Words):
    """What stands around the numbers of a request with one tensor: what they are."""

    __slots__ = ("datatype", "name", "shape", "size")

    def __init__(self, asked: Request, name: str, shape: tuple[int, ...], size: int, datatype: str):
        super().__init__(asked, plain=shape[0] == 1)
        self.name = name
        self.shape = shape
        self.size = size
        self.datatype = datatype


class Quick:
    """Reads requests, one after the other; all on one thread, since they share a parser."""

    def __init__(self, signature: Signature):
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._outputs = tuple(spec.name for spec in signature.outputs)
        self._numeric = frozenset(spec.name for spec in signature.outputs if spec.datatype != "BYTES")
        self._brackets = 1 + 2 * len(self._specs)  # inputs, and a shape and data for each: more of them are nested
        self._able = all(spec.datatype in _READ for spec in signature.inputs)
        self._parser = _PARSER
        self._around: dict[tuple[bytes, bytes], Around] = {}  # what stands around the numbers of one tensor
        self._headers: dict[bytes, Form] = {}  # the JSON of the binary extension

    def request(self, body: bytes) -> Request | None:
        """Return the request, or None where the strict route has to look at it."""
        if not self._able:
            return None
        try:
            return self._single(body) if self._brackets == _ONE else self._several(body)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError):
            return None

    def _several(self, body: bytes) -> Request | None:
        return self._read(self._parser.parse(body)) if body.count(b"[") == self._brackets else None

    def _single(self, body: bytes) -> Request | None:
        """Read a request with one tensor.

        The bytes ``"data":`` stand in JSON only where a key ends, so what stands around the list behind them, once it was
        found right, means the same around another flat list.
        """
        start, end = _between(body)
        around = (body[:start], body[end:])
        known = self._around.get(around)
        if known is None:
            if body.count(b"[") != self._brackets:
                return None
            found = self._read(self._parser.parse(body))
            small = start + len(body) - end < _FORM_BYTES and len(self._around) < _REMEMBERED
            if found is not None and found.id is None and small:
                ((name, value),) = found.inputs.items()
                asked = Request(None, {}, self._outputs)
                self._around[around] = Around(asked, name, value.shape, value.size, self._specs[name].datatype)
            return found
        values = _values(self._parser.parse(body[start:end]), known.size, known.datatype)
        if values is None:
            return None
        return Request(None, {known.name: values.reshape(known.shape)}, self._outputs)

    def plain(self, body: bytes, length: bytes | None) -> tuple[Words, bytes] | None:
        """Return what the words of a request of one row mean, and the numbers they stand around, which nobody has looked at.

        None where the words are new, or it is not so plain. `length`: of its JSON, in a request of the binary extension.
        """
        known: Words | None
        if len(body) > _PLAIN_BYTES:
            return None
        if length is not None:
            if not length.isdigit() or len(length) > 5:
                return None
            start, end = int(length), len(body)
            form = known = self._headers.get(body[:start])
            if form is None or end - start != form.size:
                return None
        elif self._around:  # none is known of a model with several inputs
            start, end = _between(body)
            known = self._around.get((body[:start], body[end:]))
        else:
            return None
        return (known, body[start:end]) if known is not None and known.plain else None

    def together(self, words: Words, pieces: Sequence[bytes]) -> dict[str, Any] | None:
        """Return the tensors of requests with the same words, one row of each; None where one of them is not right.

        `pieces`: what `plain` found in each.
        """
        if isinstance(words, Form):
            return words.inputs(pieces)
        assert isinstance(words, Around)  # noqa: S101  (there are no others)
        try:
            found = self._rows(words, pieces)
        except (ValueError, TypeError, RuntimeError, OverflowError):
            return None
        return None if found is None else {words.name: found.reshape(len(pieces), *words.shape[1:])}

    def _rows(self, words: Around, lists: Sequence[bytes]) -> Any:
        # Each piece ends with its only "]". So what is read as lists of numbers in a list is, one by one, what each request says:
        # whatever is open at the end of a piece, a bracket or a text, makes the whole no such thing.
        document: Any = self._parser.parse(b"[%s]" % b",".join(lists))
        if len(document) != len(lists) or any(len(row) != words.size for row in document):
            return None
        return _numbers(document, len(lists) * words.size, words.datatype)

    def raw(self, body: bytes, length: int, strict: "Callable[[], Request]") -> Request:
        """Return a request of the binary extension, whose JSON has that length; one of a new form is read by `strict`.

        Raises what `strict` raises.
        """
        header = body[:length]
        form = self._headers.get(header)
        if form is None or len(body) - length != form.size:
            asked = strict()
            if length < _FORM_BYTES and asked.id is None and len(self._headers) < _REMEMBERED and self._able:
                raw = asked.binary == {*asked.outputs} and asked.binary <= self._numeric
                self._headers[header] = _form(asked, plain=raw or not asked.binary)
            return asked
        asked = form.asked
        inputs = {
            name: np.frombuffer(body, dtype, count, length + start).reshape(shape)
            for name, dtype, shape, count, start in form.tensors
        }
        return Request(None, inputs, asked.outputs, asked.binary, asked.seconds)

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
    found = _values(tensor["data"], prod(shape), spec.datatype)
    return None if found is None else found.reshape(shape)


def _values(data: Any, size: int, datatype: str) -> Any:
    """Return a flat list of numbers as an array, or None when it is none, or not of that size."""
    return _numbers(data, size, datatype) if len(data) == size else None


def _between(body: bytes) -> tuple[int, int]:
    """Return where the list behind the first ``"data":`` begins, and where it ends if it is flat."""
    start = body.find(b'"data":') + 7
    start += body[start : start + 1] == b" "
    return start, body.find(b"]", start) + 1


def _numbers(data: Any, size: int, datatype: str) -> Any:
    """Return all numbers in a list as an array, or None when there are not so many, or one does not fit."""
    if (dtype := _FLOATS.get(datatype)) is not None:
        found = np.frombuffer(data.as_buffer(of_type="d"), np.float64)
        if dtype is np.float32:
            # No sum of squares, which would be quicker for few: of many OpenBLAS makes it with threads, which then spin.
            if np.maximum.reduce(found) > _LARGEST or np.minimum.reduce(found) < -_LARGEST:
                return None
            found = found.astype(np.float32)
    else:
        found = np.frombuffer(data.as_buffer(of_type="i"), np.int64)
        if datatype == "UINT8":
            if np.maximum.reduce(found) > 255 or np.minimum.reduce(found) < 0:
                return None
            found = found.astype(np.uint8)
    return found if len(found) == size else None


def _form(asked: Request, *, plain: bool) -> Form:
    """Say where the tensors lie, which follow one another in the order of the request. `plain`: as of `Form`."""
    tensors, at = [], 0
    for name, value in asked.inputs.items():
        tensors.append(Tensor(name, value.dtype, list(value.shape), value.size, at))
        at += value.nbytes
    return Form(asked, tuple(tensors), at, plain=plain)
