"""OpenVINO on the processor: computes the `model.onnx` of a bundle, where it has the operators for it.

Importing this module does not import OpenVINO, so a machine without it, or a model it cannot compute, pays nothing.
"""

import importlib
import importlib.util
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from leptonai.adapters.runtimes.inputs import FILE, Input, check, graph, known, unloadable
from leptonai.core import settings
from leptonai.core.errors import Invalid, MissingExtra, Unsupported
from leptonai.core.runtimes import Variant
from leptonai.core.signature import Signature

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_WHERE = ("Exception from ", "Check '", "FrontEnd API failed", "Model wasn't fully converted")
_MOST = 2**31 - 1


class OpenvinoRuntime:
    """Loads ONNX files that lie in memory and name no other file."""

    name = "openvino"

    def variants(self, signature: Signature) -> list[Variant]:
        """Return fp32, and bf16 where the processor multiplies it; none without OpenVINO, and none for a model with text."""
        if any(spec.datatype == "BYTES" for spec in (*signature.inputs, *signature.outputs)):
            return []
        if importlib.util.find_spec("openvino") is None:
            return []
        able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return [Variant(self.name, precision=p) for p in ("fp32", "bf16") if p.upper() in able]

    def load(
        self, files: Mapping[str, bytes], threads: int = 1, *, precision: str = "fp32", device: str = ""
    ) -> "OpenvinoModel":
        """Load and compile the model. Raises `Invalid`, `Unsupported` for an operator it lacks, `MissingExtra`."""
        data = graph(files)
        if precision not in _HINTS:
            raise Unsupported(f"OpenVINO computes here in {' or '.join(_HINTS)}, not in {precision[:40]!r}")
        if device not in ("", "cpu"):
            raise Unsupported(f"OpenVINO computes here on the device cpu, not on {device[:40]!r}")
        openvino, core = _library(), _core()
        if _names_a_file(data):
            raise unloadable("it keeps tensors in other files, which are never read")
        try:
            # Through the front end for ONNX alone: `read_model` would try the formats of all frameworks.
            front = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            read = front.load(io.BytesIO(data))
            inputs, outputs = ([place.get_names()[0] for place in p] for p in (read.get_inputs(), read.get_outputs()))
            compiled = core.compile_model(
                front.convert(read),
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": _HINTS[precision],  # left alone it takes bf16 where there is any
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "INFERENCE_NUM_THREADS": threads,
                    "ENABLE_CPU_PINNING": False,  # pinned, two processes share one core
                },
            )
        except Exception as error:  # the library raises RuntimeError and errors of its own
            raise unloadable(_reason(error)) from error
        if not outputs or len(outputs) != len(compiled.outputs):
            raise unloadable("it has no outputs" if not outputs else "OpenVINO computes only some of its outputs")
        return OpenvinoModel(compiled, inputs, outputs)


class OpenvinoModel:
    """A loaded model. One call at a time; the caller says which thread."""

    def __init__(self, compiled: Any, inputs: Sequence[str], outputs: Sequence[str]):
        # A tensor has all the names that it ever had in the graph: only those of the file are the model's.
        ports = [(next(name for name in inputs if name in port.names), port) for port in compiled.inputs]
        self._inputs = {name: _input(name, port) for name, port in ports}
        self._names = tuple(outputs)
        self._outputs = {name: index for index, name in enumerate(outputs)}
        self._wide = [one.name for one in self._inputs.values() if one.dtype.kind in "iu" and one.dtype.itemsize > 3]
        self._request = compiled.create_infer_request()
        self._tensor = _library().Tensor

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        """Compute one batch; all outputs when none is named. Raises `Invalid` that names what does not fit."""
        if self._request is None:
            raise Invalid("the model is closed")
        wanted = check(self._inputs, inputs, self._names, outputs)
        for name in self._wide:
            value = inputs[name]
            if value.size and (int(value.max()) > _MOST or int(value.min()) < -_MOST):
                raise Invalid(f"input {name!r}: OpenVINO counts in 32 bits, and would cut a number of this batch")
        try:
            # Bound one by one: handing `infer` a dictionary takes longer than a small model does.
            for index, name in enumerate(self._inputs):
                value, flags = inputs[name], inputs[name].flags
                if not (flags.c_contiguous and flags.writeable):
                    value = value.copy()
                self._request.set_input_tensor(index, self._tensor(value, True))
            self._request.infer(share_outputs=True)
            # Copied: the next batch is computed into the same memory.
            return {name: self._request.get_output_tensor(self._outputs[name]).data.copy() for name in wanted}
        except Exception as error:  # as in `load`
            raise Invalid(f"the model could not compute this batch: {_reason(error)}") from error

    def close(self) -> None:
        """Free the compiled model; a second call does nothing."""
        self._request = None


@cache
def _library() -> Any:
    """Import OpenVINO, which sends nothing then. Raises `MissingExtra`."""
    settings.silence_libraries()
    # Its converters are imported with it, take longer than all the rest, and are never used here.
    name = "openvino.tools.ovc"
    blocked = sys.modules.setdefault(name, None) is None  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise MissingExtra(
            "OpenVINO is not installed: install it with  pip install 'lepton-ai-sdk[openvino]'"
        ) from error
    finally:
        if blocked:
            del sys.modules[name]


@cache
def _core() -> Any:
    """Return the core that all models of this process share."""
    return _library().Core()


def _names_a_file(data: bytes) -> bool:
    """Whether a tensor lies in another file: OpenVINO would read any path that is written there.

    Such a tensor has a key "location". A graph without the word, which is nearly every one, needs no parsing.
    """
    if b"location" not in data:
        return False
    try:
        return any(map(_is_elsewhere, _messages(importlib.import_module("onnx").load_from_string(data))))
    except Exception as error:  # protobuf's errors have no common root but Exception
        raise unloadable("it is no ONNX file") from error


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                yield from _messages(part)


def _is_elsewhere(message: Any) -> bool:
    return message.DESCRIPTOR.name == "TensorProto" and bool(message.data_location or message.external_data)


def _input(name: str, port: Any) -> Input:
    kind = port.get_element_type()
    dtype = kind.to_dtype()
    if dtype.kind not in "biuf":
        raise Unsupported(f"{FILE}: input {name!r} is of type {kind.get_type_name()}, which OpenVINO cannot serve")
    return known(name, dtype, tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape()))


def _reason(error: Exception) -> str:
    """Return what is wrong in one line: OpenVINO says first where in its sources, and last what."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line.removeprefix("-- ") for line in lines if line.startswith("-- No conversion rule")]
    telling = telling or [line for line in lines if not line.startswith(_WHERE)]
    return telling[0][:300] if telling else type(error).__name__
