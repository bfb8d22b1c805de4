"""ONNX Runtime: computes the `model.onnx` of a bundle on the processor, or where the setting `providers` says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leptonai.adapters.runtimes.inputs import FILE, Input, check, graph, known, unloadable
from leptonai.core import settings
from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.runtimes import Variant
from leptonai.core.signature import Signature

settings.silence_libraries()  # it opens a database, starts threads and reports to its maker when it is imported
import onnxruntime as ort  # noqa: E402

_DTYPES: dict[str, Any] = {
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(uint32)": np.uint32,
    "tensor(int32)": np.int32,
    "tensor(uint64)": np.uint64,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(string)": np.object_,
}
_CPU = "CPUExecutionProvider"
# On these cards float32 would be rounded to 10 bits of mantissa in each product unless it is forbidden.
_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}


class OnnxRuntime:
    """Loads ONNX files that lie in memory; such a file can name no other file (ONNX Runtime refuses external data)."""

    name = "onnx"

    def variants(self, signature: Signature) -> list[Variant]:
        """Return the processor first, which computes every model, then each other provider of the setting."""
        del signature
        devices = ["cpu", *(_device(name) for name in _configured() if name != _CPU)]
        return [Variant(self.name, device=device) for device in devices]

    def load(
        self, files: Mapping[str, bytes], threads: int = 1, *, precision: str = "fp32", device: str = ""
    ) -> "OnnxModel":
        """Load the model. Threads that wait for work sleep instead of spinning. Raises `Invalid`, `Unsupported`."""
        data = graph(files)
        if precision != "fp32":
            raise Unsupported(f"ONNX Runtime computes a model as it was published, in fp32, not in {precision}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is raised, with its reason
        providers = [(name, _OPTIONS.get(name, {})) for name in _providers(device)]
        try:
            session = ort.InferenceSession(data, options, providers=providers)
        except Exception as error:  # the library's errors have no common root but Exception
            raise unloadable(_reason(error)) from error
        if session.get_providers()[0] != providers[0][0]:  # it goes on without a provider that does not start
            raise Unsupported(
                f"{providers[0][0]} did not start here: set LEPTONAI_PROVIDERS to {_CPU}, or mend its driver"
            )
        return OnnxModel(session)


class OnnxModel:
    """A loaded model. One call at a time; the caller says which thread."""

    def __init__(self, session: Any):
        self._session = session
        self._inputs = {node.name: _input(node) for node in session.get_inputs()}
        self._outputs = [node.name for node in session.get_outputs()]

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        """Compute one batch; all outputs when none is named. Strings are object arrays of `str`.

        Raises `Invalid` that names the input or output which does not fit.
        """
        if self._session is None:
            raise Invalid("the model is closed")
        wanted = check(self._inputs, inputs, self._outputs, outputs)
        try:
            return dict(zip(wanted, self._session.run(wanted, dict(inputs)), strict=True))
        except Exception as error:  # as in `load`
            raise Invalid(f"the model could not compute this batch: {_reason(error)}") from error

    def close(self) -> None:
        """Free the session; a second call does nothing."""
        self._session = None


def _configured() -> list[str]:
    """Return the providers of the setting, in its order. Raises `Invalid` when one is not installed."""
    names = [name.strip() for name in (settings.get("providers") or _CPU).split(",") if name.strip()]
    installed = ort.get_available_providers()
    for name in names:
        if name not in installed:
            raise Invalid(
                f"the setting providers (LEPTONAI_PROVIDERS) names {name[:80]!r}; "
                f"this ONNX Runtime has {', '.join(installed)}"
            )
    return names


def _providers(device: str) -> list[str]:
    """Return the providers of a device, with those that take over what it cannot compute; "": as the setting says."""
    if device == "cpu":
        return [_CPU]
    names = [name for name in _configured() if name != _CPU] if device else _configured()
    while device and names and _device(names[0]) != device:
        names.pop(0)
    if not names:
        raise Unsupported(f"the setting providers (LEPTONAI_PROVIDERS) names no provider for {device[:80]!r}")
    return names if _CPU in names else [*names, _CPU]


def _device(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider").lower()


def _input(node: Any) -> Input:
    if node.type not in _DTYPES:
        raise Unsupported(f"{FILE}: input {node.name!r} is of type {node.type}, which cannot be served")
    return known(node.name, _DTYPES[node.type], tuple(d if isinstance(d, int) else None for d in node.shape))


def _reason(error: Exception) -> str:
    """Return the first line, without ONNX Runtime's source positions and its error numbers."""
    text = str(error).strip().partition("\n")[0]
    for mark in ("[ONNXRuntimeError] : ", "Exception during initialization: "):
        text = text.partition(mark)[2] or text
    head, _, tail = text.partition(" : ")
    text = tail.partition(" : ")[2] or tail if head.strip().isdigit() else text
    return text.strip()[:300] or type(error).__name__
