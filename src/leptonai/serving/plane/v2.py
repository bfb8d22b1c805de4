"""The Open Inference Protocol, version 2: what its JSON says, without HTTP.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.nouns import Signature, TensorSpec
from leptonai.serving.plane.values import Misfit, array, flat, say


class Request:
    """An inference request that was checked."""

    __slots__ = ("id", "inputs", "outputs")

    def __init__(self, id: str | None, inputs: dict[str, Any], outputs: tuple[str, ...]):
        self.id = id
        self.inputs = inputs
        self.outputs = outputs


def request(body: Any, signature: Signature) -> Request:
    """Check a request against the signature and return its tensors. Raises `Invalid` that names the field."""
    if type(body) is not dict:
        raise _wrong("the request", f"must be an object, not {say(body)}")
    _known(body, ("id", "parameters", "inputs", "outputs"), "the request")
    _parameters(body, "the request")
    if (given := body.get("id")) is not None and type(given) is not str:
        raise _wrong("id", f"must be text, not {say(given)}")
    inputs = _tensors(body.get("inputs"), signature.inputs)
    rows = {len(value) for value in inputs.values()}
    if len(rows) != 1:
        raise _wrong(
            "inputs", f"have different numbers of rows: {', '.join(f'{k!r} {len(v)}' for k, v in inputs.items())}"[:500]
        )
    return Request(given, inputs, _outputs(body.get("outputs"), signature))


def response(
    name: str, version: str, id: str | None, outputs: Mapping[str, Any], order: Sequence[TensorSpec]
) -> dict[str, Any]:
    """Return the answer: every array with its shape and its values in row-major order."""
    tensors = [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(found.shape), "data": _data(found)}
        for spec in order
        if (found := outputs.get(spec.name)) is not None
    ]
    answer = {"model_name": name, "model_version": version, "outputs": tensors}
    return answer if id is None else {**answer, "id": id}


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


def _data(found: Any) -> Any:
    return found.ravel().tolist() if found.dtype == np.object_ else np.ascontiguousarray(found).reshape(-1)


def _tensors(given: Any, specs: Sequence[TensorSpec]) -> dict[str, Any]:
    if type(given) is not list or not given:
        raise _wrong("inputs", "must be a list of tensors, one for each input of the model")
    known = {spec.name: spec for spec in specs}
    made: dict[str, Any] = {}
    for index, tensor in enumerate(given):
        where = f"inputs[{index}]"
        if type(tensor) is not dict:
            raise _wrong(where, f"must be an object, not {say(tensor)}")
        name = tensor.get("name")
        if type(name) is not str or name not in known:
            raise _wrong(where, f"names {say(name)}; the model's inputs are {', '.join(known)}"[:600])
        if name in made:
            raise _wrong(f"input {name!r}", "is given twice")
        made[name] = _tensor(tensor, known[name])
    for name in known:
        if name not in made:
            raise _wrong(f"input {name!r}", "is missing")
    return made


def _tensor(given: Mapping[str, Any], spec: TensorSpec) -> Any:
    where = f"input {spec.name!r}"
    _known(given, ("name", "shape", "datatype", "parameters", "data"), where)
    _parameters(given, where)
    if given.get("datatype") != spec.datatype:
        raise _wrong(where, f"has the datatype {spec.datatype}, not {say(given.get('datatype'))}")
    shape = given.get("shape")
    if type(shape) is not list or not all(type(d) is int and 0 <= d < 2**53 for d in shape):
        raise _wrong(where, "needs a 'shape': a list of whole numbers")
    if len(shape) != len(spec.shape) or any(want not in (-1, got) for want, got in zip(spec.shape, shape, strict=True)):
        raise _wrong(where, f"has the shape {list(spec.shape)} (-1: any), not {shape}"[:300])
    if prod(shape) == 0:
        raise _wrong(where, f"of shape {shape} holds nothing")
    if "data" not in given:
        raise _wrong(where, "has no 'data'")
    try:
        return array(
            flat(given["data"], shape), spec.datatype, np.nan if spec.datatype in ("FP32", "FP64") else ...
        ).reshape(shape)
    except Misfit as error:
        place = f"{where}, element {error.index}" if error.index else where
        raise _wrong(place, error.message) from None


def _outputs(given: Any, signature: Signature) -> tuple[str, ...]:
    names = tuple(spec.name for spec in signature.outputs)
    if given is None or given == []:
        return names
    if type(given) is not list:
        raise _wrong("outputs", f"must be a list, not {say(given)}")
    wanted = []
    for index, output in enumerate(given):
        where = f"outputs[{index}]"
        if type(output) is not dict or output.get("name") not in names:
            raise _wrong(where, f"must name one of the model's outputs: {', '.join(names)}")
        _known(output, ("name", "parameters"), where)
        _parameters(output, where)
        wanted.append(output["name"])
    return tuple(wanted)


def _known(given: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in given:
        if name not in names:
            raise _wrong(where, f"has a field {name[:80]!r} that is not known; known are {', '.join(names)}")


def _parameters(given: Mapping[str, Any], where: str) -> None:
    """Parameters change what a request means, so one that is not understood is refused; off-the-shelf clients send `false`."""
    parameters = given.get("parameters")
    if parameters is None:
        return
    if type(parameters) is not dict:
        raise _wrong(where, f"has 'parameters' that must be an object, not {say(parameters)}")
    for name, value in parameters.items():
        if name in ("binary_data", "binary_data_output") and value is False:
            continue
        right = f"{where} has the parameter {name[:80]!r} = {say(value)}, which is not supported here: leave it out"
        raise Unsupported(right, errors=[FieldError(f"parameters.{name[:80]}", "not supported")])


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}", errors=[FieldError(field, message)])
