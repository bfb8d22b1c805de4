"""The Open Inference Protocol, version 2: what its JSON says, without HTTP.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.signature import Signature, TensorSpec
from leptonai.serving.plane import binary
from leptonai.serving.plane.values import Misfit, array, flat, say


class Request:
    """An inference request that was checked. `binary`: the outputs that go back as raw bytes. `seconds`: its deadline."""

    __slots__ = ("binary", "id", "inputs", "outputs", "seconds")

    def __init__(
        self,
        id: str | None,
        inputs: dict[str, Any],
        outputs: tuple[str, ...],
        binary: frozenset[str] = frozenset(),
        seconds: float | None = None,
    ):
        self.id = id
        self.inputs = inputs
        self.outputs = outputs
        self.binary = binary
        self.seconds = seconds


def request(body: Any, signature: Signature, raw: memoryview | None = None) -> Request:
    """Check a request against the signature and return its tensors. Raises `Invalid` that names the field.

    `raw`: what follows the JSON in a request of the binary extension.
    """
    if type(body) is not dict:
        raise _wrong("the request", f"must be an object, not {say(body)}")
    _known(body, ("id", "parameters", "inputs", "outputs"), "the request")
    asked = _parameters(body, "the request", ("binary_data_output", "timeout"))
    if (given := body.get("id")) is not None and type(given) is not str:
        raise _wrong("id", f"must be text, not {say(given)}")
    inputs = _tensors(body.get("inputs"), signature.inputs, raw)
    rows = {len(value) for value in inputs.values()}
    if len(rows) != 1:
        raise _wrong(
            "inputs", f"have different numbers of rows: {', '.join(f'{k!r} {len(v)}' for k, v in inputs.items())}"[:500]
        )
    outputs, as_bytes = _outputs(body.get("outputs"), signature, asked.get("binary_data_output", False))
    seconds = asked["timeout"] / 1e6 if asked.get("timeout") else None  # Triton's clients give microseconds
    return Request(given, inputs, outputs, as_bytes, seconds)


def metadata(name: str, versions: Sequence[str], platform: str, signature: Signature) -> dict[str, Any]:
    """Return what a model takes and gives."""
    return {
        "name": name,
        "versions": list(versions),
        "platform": platform,
        "inputs": [_describe(spec) for spec in signature.inputs],
        "outputs": [_describe(spec) for spec in signature.outputs],
    }


def _describe(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _tensors(given: Any, specs: Sequence[TensorSpec], raw: memoryview | None) -> dict[str, Any]:
    if type(given) is not list or not given:
        raise _wrong("inputs", "must be a list of tensors, one for each input of the model")
    known = {spec.name: spec for spec in specs}
    made: dict[str, Any] = {}
    taken = 0  # of the raw bytes
    for index, tensor in enumerate(given):
        where = f"inputs[{index}]"
        if type(tensor) is not dict:
            raise _wrong(where, f"must be an object, not {say(tensor)}")
        name = tensor.get("name")
        if type(name) is not str or name not in known:
            raise _wrong(where, f"names {say(name)}; the model's inputs are {', '.join(known)}"[:600])
        if name in made:
            raise _wrong(f"input {name!r}", "is given twice")
        where = f"input {name!r}"
        size = _parameters(tensor, where, ("binary_data", "binary_data_size")).get("binary_data_size")
        if size is None:
            made[name] = _tensor(tensor, known[name], where)
            continue
        if raw is None:
            raise _wrong(where, "has a 'binary_data_size', which needs the header Inference-Header-Content-Length")
        if taken + size > len(raw):
            raise _wrong(where, f"announces {size} bytes, and {len(raw) - taken} are left after the JSON")
        if "data" in tensor:
            raise _wrong(where, "has both 'data' and a 'binary_data_size'")
        made[name] = binary.array(raw[taken : taken + size], _shape(tensor, known[name], where), known[name], where)
        taken += size
    if raw is not None and taken != len(raw):
        raise _wrong("the request", f"has {len(raw) - taken} bytes after the JSON that no input announces")
    for name in known:
        if name not in made:
            raise _wrong(f"input {name!r}", "is missing")
    return made


def _shape(given: Mapping[str, Any], spec: TensorSpec, where: str) -> list[int]:
    _known(given, ("name", "shape", "datatype", "parameters", "data"), where)
    if given.get("datatype") != spec.datatype:
        raise _wrong(where, f"has the datatype {spec.datatype}, not {say(given.get('datatype'))}")
    shape = given.get("shape")
    if type(shape) is not list or not all(type(d) is int and 0 <= d < 2**53 for d in shape):
        raise _wrong(where, "needs a 'shape': a list of whole numbers")
    if len(shape) != len(spec.shape) or any(want not in (-1, got) for want, got in zip(spec.shape, shape, strict=True)):
        raise _wrong(where, f"has the shape {list(spec.shape)} (-1: any), not {shape}"[:300])
    if prod(shape) == 0:
        raise _wrong(where, f"of shape {shape} holds nothing")
    return shape


def _tensor(given: Mapping[str, Any], spec: TensorSpec, where: str) -> Any:
    shape = _shape(given, spec, where)
    if "data" not in given:
        raise _wrong(where, "has no 'data'")
    try:
        return array(
            flat(given["data"], shape), spec.datatype, np.nan if spec.datatype in ("FP32", "FP64") else ...
        ).reshape(shape)
    except Misfit as error:
        place = f"{where}, element {error.index}" if error.index else where
        raise _wrong(place, error.message) from None


def _outputs(given: Any, signature: Signature, raw: bool) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the outputs that are wanted, and those of them that are wanted as raw bytes (`raw`: unless told otherwise)."""
    names = tuple(spec.name for spec in signature.outputs)
    if given is None or given == []:
        return names, frozenset(names if raw else ())
    if type(given) is not list:
        raise _wrong("outputs", f"must be a list, not {say(given)}")
    wanted, as_bytes = [], set()
    for index, output in enumerate(given):
        where = f"outputs[{index}]"
        if type(output) is not dict or output.get("name") not in names:
            raise _wrong(where, f"must name one of the model's outputs: {', '.join(names)}")
        _known(output, ("name", "parameters"), where)
        if _parameters(output, where, ("binary_data",)).get("binary_data", raw):
            as_bytes.add(output["name"])
        wanted.append(output["name"])
    return tuple(wanted), frozenset(as_bytes)


def _known(given: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in given:
        if name not in names:
            raise _wrong(where, f"has a field {name[:80]!r} that is not known; known are {', '.join(names)}")


_MEANT: dict[str, type] = {"binary_data": bool, "binary_data_output": bool, "binary_data_size": int, "timeout": int}


def _parameters(given: Mapping[str, Any], where: str, known: Sequence[str]) -> dict[str, Any]:
    """Return the parameters. They change what a request means, so one that is not understood is refused."""
    parameters = given.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise _wrong(where, f"has 'parameters' that must be an object, not {say(parameters)}")
    for name, value in parameters.items():
        if name in known and type(value) is _MEANT[name] and not str(value).startswith("-"):
            continue
        right = f"{where} has the parameter {name[:80]!r} = {say(value)}, which is not supported here: leave it out"
        raise Unsupported(right, errors=[FieldError(f"parameters.{name[:80]}", "not supported")])
    return parameters


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}", errors=[FieldError(field, message)])
