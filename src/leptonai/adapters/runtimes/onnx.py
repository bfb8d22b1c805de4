"""ONNX Runtime on the processor: computes the `model.onnx` of a bundle."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from leptonai.core import settings
from leptonai.core.errors import FieldError, Invalid, Unsupported

settings.silence_libraries()  # it opens a database, starts threads and reports to its maker when it is imported
import onnxruntime as ort  # noqa: E402

FILE = "model.onnx"

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


class OnnxRuntime:
    """Loads ONNX files that lie in memory; such a file can name no other file (ONNX Runtime refuses external data)."""

    name = "onnx"

    def load(self, files: Mapping[str, bytes], threads: int = 1) -> "OnnxModel":
        """Load the model. Threads that wait for work sleep instead of spinning. Raises `Invalid`, `Unsupported`."""
        if FILE not in files:
            raise Invalid(f"the bundle has no {FILE}: it has {', '.join(sorted(files)) or 'no file'}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what goes wrong is raised, with its reason
        try:
            session = ort.InferenceSession(files[FILE], options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's errors have no common root but Exception
            raise Invalid(
                f"{FILE} cannot be loaded: {_reason(error)}", errors=[FieldError(FILE, _reason(error))]
            ) from error
        return OnnxModel(session)


class _Input(NamedTuple):
    name: str
    dtype: Any
    shape: tuple[int | None, ...]  # None: any length
    plain: bool  # only the batch, which comes first, is of any length


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
        if inputs.keys() != self._inputs.keys():
            self._refuse(inputs)
        for name, known in self._inputs.items():
            _check(known, inputs[name])
        for name in outputs:
            if name not in self._outputs:
                raise _wrong("output", name, f"the model's outputs are {', '.join(self._outputs)}")
        wanted = list(outputs) or self._outputs
        try:
            return dict(zip(wanted, self._session.run(wanted, dict(inputs)), strict=True))
        except Exception as error:  # as in `load`
            raise Invalid(f"the model could not compute this batch: {_reason(error)}") from error

    def _refuse(self, inputs: Mapping[str, Any]) -> NoReturn:
        for name in inputs.keys() - self._inputs.keys():
            raise _wrong("input", name, f"the model's inputs are {', '.join(self._inputs)}")
        missing = next(name for name in self._inputs if name not in inputs)
        raise _wrong("input", missing, "it is missing")

    def close(self) -> None:
        """Free the session; a second call does nothing."""
        self._session = None


def _input(node: Any) -> _Input:
    if node.type not in _DTYPES:
        raise Unsupported(f"{FILE}: input {node.name!r} is of type {node.type}, which cannot be served")
    shape = tuple(d if isinstance(d, int) else None for d in node.shape)
    return _Input(node.name, np.dtype(_DTYPES[node.type]), shape, shape[:1] == (None,) and None not in shape[1:])


def _check(known: _Input, value: Any) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != known.dtype:
        found = value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
        raise _wrong("input", known.name, f"it must be an array of {known.dtype.name}, not {found}")
    if known.plain:
        fits = value.ndim == len(known.shape) and value.shape[1:] == known.shape[1:]
    else:
        fits = value.ndim == len(known.shape) and all(
            want in (None, got) for want, got in zip(known.shape, value.shape, strict=True)
        )
    if not fits:
        want = ", ".join("any" if d is None else str(d) for d in known.shape)
        raise _wrong("input", known.name, f"it must have the shape ({want}), not {value.shape}")
    if known.dtype.kind == "O" and not set(map(type, value.ravel())) <= {str}:
        raise _wrong("input", known.name, "it must hold text only")


def _wrong(kind: str, name: str, right: str) -> Invalid:
    return Invalid(f"{kind} {name!r}: {right}", errors=[FieldError(name, right)])


def _reason(error: Exception) -> str:
    """Return the first line, without ONNX Runtime's source positions and its error numbers."""
    text = str(error).strip().partition("\n")[0]
    for mark in ("[ONNXRuntimeError] : ", "Exception during initialization: "):
        text = text.partition(mark)[2] or text
    head, _, tail = text.partition(" : ")
    text = tail.partition(" : ")[2] or tail if head.strip().isdigit() else text
    return text.strip()[:300] or type(error).__name__
