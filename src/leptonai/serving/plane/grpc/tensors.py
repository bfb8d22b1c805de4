"""Tensors in the messages of the protocol: what a request says, checked against the signature, and its answer.

A caller's requests differ in their numbers only. So what stands before the raw bytes of its tensors is remembered, and for
the next such request no message is made: its arrays are views of the bytes that came.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.signature import Signature, TensorSpec
from leptonai.serving.plane import binary
from leptonai.serving.plane.grpc.messages import ModelInferRequest
from leptonai.serving.plane.values import DATATYPES

REMEMBERED = 512  # heads of requests
HEAD_BYTES = 2048  # of one that is remembered
AXES = 32

_CONTENTS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "INT64": "int64_contents", "FP32": "fp32_contents",
    "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_EVERY = ("bool", "int", "int64", "uint", "uint64", "fp32", "fp64", "bytes")


class Asked(NamedTuple):
    """An inference request that was checked. `raw`: its tensors came as raw bytes, and so go the answer's."""

    id: str
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]
    raw: bool
    seconds: float | None  # its deadline


class Form(NamedTuple):
    """What the head of a request means for one version of a model. `tails`: what stands before the bytes of each tensor."""

    name: str
    version: str
    signature: Signature
    asked: Asked
    tails: tuple[tuple[str, Any, tuple[int, ...], int, int, bytes], ...]


class Forms:
    """Reads requests whose head was seen before."""

    def __init__(self) -> None:
        self._forms: dict[bytes, Form] = {}
        self._lengths: dict[int, int] = {}  # of a whole message -> of its head

    def find(self, message: bytes) -> Form | None:
        """Return what the head of a message means, where that is known."""
        length = self._lengths.get(len(message))
        return None if length is None else self._forms.get(message[:length])

    def read(self, message: bytes, form: Form) -> Asked | None:
        """Return a request of a known form, or None when it is none after all."""
        at = self._lengths[len(message)]
        inputs = {}
        for name, dtype, shape, count, size, tag in form.tails:
            start = at + len(tag)
            if message[at:start] != tag:
                return None
            inputs[name] = np.frombuffer(message, dtype, count, start).reshape(shape)
            at = start + size
        return form.asked._replace(inputs=inputs) if at == len(message) else None

    def learn(self, message: bytes, asked: Asked, given: Any, signature: Signature) -> None:
        """Remember the head of a request that was found right."""
        parts = [(tensor.name, data) for tensor, data in zip(given.inputs, given.raw_input_contents, strict=True)]
        kinds = {spec.name: spec.datatype for spec in signature.inputs}
        tail = b"".join(_tag(len(data)) + data for _, data in parts)
        length = len(message) - len(tail)
        if (
            asked.id
            or length > HEAD_BYTES
            or not message.endswith(tail)
            or any(kinds[name] in ("BOOL", "BYTES") for name, _ in parts)
        ):
            return
        head = message[:length]
        try:
            alone = ModelInferRequest.FromString(head)
        except DecodeError:
            return
        if alone.raw_input_contents:
            return
        if len(self._forms) >= REMEMBERED:
            self._forms.clear()
            self._lengths.clear()
        tails = tuple(
            (
                name,
                asked.inputs[name].dtype,
                asked.inputs[name].shape,
                asked.inputs[name].size,
                len(data),
                _tag(len(data)),
            )
            for name, data in parts
        )
        self._forms[head] = Form(given.model_name, given.model_version, signature, asked._replace(inputs={}), tails)
        self._lengths[len(message)] = length


def read(given: Any, signature: Signature) -> Asked:
    """Check a request against the signature. Raises `Invalid` that names the field."""
    parameters = _parameters(given.parameters, "the request", ("timeout",))
    raw = given.raw_input_contents
    if raw and len(raw) != len(given.inputs):
        raise _wrong("raw_input_contents", f"has {len(raw)} tensors, and there are {len(given.inputs)} inputs")
    known = {spec.name: spec for spec in signature.inputs}
    inputs: dict[str, Any] = {}
    for index, tensor in enumerate(given.inputs):
        if tensor.name not in known:
            where = f"inputs[{index}]"
            raise _wrong(where, f"names {tensor.name[:80]!r}; the model's inputs are {', '.join(known)}"[:600])
        where = f"input {tensor.name!r}"
        if tensor.name in inputs:
            raise _wrong(where, "is given twice")
        _parameters(tensor.parameters, where, ())
        inputs[tensor.name] = _tensor(tensor, known[tensor.name], raw[index] if raw else None, where)
    for name in known:
        if name not in inputs:
            raise _wrong(f"input {name!r}", "is missing")
    rows = {len(value) for value in inputs.values()}
    if len(rows) != 1:
        said = ", ".join(f"{name!r} {len(value)}" for name, value in inputs.items())
        raise _wrong("inputs", f"have different numbers of rows: {said}"[:500])
    timeout = parameters.get("timeout", 0)
    seconds = timeout / 1e6 if timeout > 0 else None  # Triton's clients give microseconds
    return Asked(given.id, inputs, _outputs(given.outputs, signature), bool(raw), seconds)


def _tensor(given: Any, spec: TensorSpec, raw: bytes | None, where: str) -> Any:
    shape = _shape(given, spec, where)
    contents = given.contents if given.HasField("contents") else None
    if raw is not None:
        if contents is not None:
            raise _wrong(where, "has 'contents', and the request has 'raw_input_contents': give one of them")
        return binary.array(memoryview(raw), shape, spec, where)
    if contents is None:
        raise _wrong(where, "has no 'contents', and the request has no 'raw_input_contents'")
    own = _CONTENTS[spec.datatype]
    other = next((f"{kind}_contents" for kind in _EVERY if getattr(contents, f"{kind}_contents")), own)
    values = getattr(contents, own)
    if len(values) != prod(shape) or other != own:
        found = f"{len(values)} values in {own!r}" if other == own else f"values in {other!r}"
        raise _wrong(where, f"has {found}; its shape {shape} needs {prod(shape)} in {own!r}")
    return _array(values, spec, where).reshape(shape)


def _array(values: Any, spec: TensorSpec, where: str) -> Any:
    if spec.datatype == "BYTES":
        made = np.empty(len(values), object)
        try:
            made[:] = [str(value, "utf-8") for value in values]
        except UnicodeDecodeError:
            raise _wrong(where, "holds an element that is not text in UTF-8") from None
        return made
    if spec.datatype == "UINT8":
        found = np.fromiter(values, np.uint32, len(values))
        if found.max() > 255:
            raise _wrong(where, "holds a number over 255, where UINT8 is needed")
        return found.astype(np.uint8)
    return np.fromiter(values, DATATYPES[spec.datatype].numpy, len(values))


def _shape(given: Any, spec: TensorSpec, where: str) -> list[int]:
    if given.datatype != spec.datatype:
        raise _wrong(where, f"is of the datatype {spec.datatype}, not {given.datatype[:40]!r}")
    shape = list(given.shape[: AXES + 1])
    if len(shape) != len(spec.shape) or any(
        got < 0 or want not in (-1, got) for want, got in zip(spec.shape, shape, strict=True)
    ):
        raise _wrong(where, f"has the shape {list(spec.shape)} (-1: any), not {shape}"[:300])
    if prod(shape) == 0:
        raise _wrong(where, f"of shape {shape} holds nothing")
    return shape


def _outputs(given: Sequence[Any], signature: Signature) -> tuple[str, ...]:
    names = tuple(spec.name for spec in signature.outputs)
    if not given:
        return names
    wanted = []
    for index, output in enumerate(given):
        where = f"outputs[{index}]"
        if output.name not in names:
            raise _wrong(where, f"must name one of the model's outputs: {', '.join(names)}")
        _parameters(output.parameters, where, ())
        if output.name not in wanted:
            wanted.append(output.name)
    return tuple(wanted)


def _parameters(given: Any, where: str, known: Sequence[str]) -> dict[str, Any]:
    """Return the parameters. They change what a request means, so one that is not understood is refused."""
    found = {}
    for name, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        told = getattr(value, kind) if kind else None
        if name in known and type(told) is int and told >= 0:
            found[name] = told
            continue
        message = f"{where} has the parameter {name[:80]!r}, which is not supported here: leave it out"
        raise Unsupported(message, errors=[FieldError(f"parameters.{name[:80]}", "not supported")])
    return found


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}", errors=[FieldError(field, message)])


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def _tag(size: int) -> bytes:
    """Return what stands before one of the ``raw_input_contents``: field 7, and its length."""
    return b"\x3a" + varint(size)
