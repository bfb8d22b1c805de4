"""A published model version, asked through the runtime that serves it: columns are its inputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonai.core import plugins
from leptonai.core.signature import Signature, TensorSpec

Array = NDArray[Any]
_DTYPES = {"BOOL": np.bool_, "UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32, "FP64": np.float64}


class Published:
    """The ONNX file of a bundle, loaded. Close it."""

    def __init__(self, graph: bytes, signature: Signature):
        self.signature = signature
        self._model = plugins.runtime("onnx").load({"model.onnx": graph})

    def scores(self, batch: Mapping[str, Any]) -> Array:
        """Return probabilities (rows, classes), or values, for a batch as a `Reader` gives it."""
        return self.answers({spec.name: feed(spec, batch[spec.name]) for spec in self.signature.inputs})

    def answers(self, given: Mapping[str, Any]) -> Array:
        """Return the same for inputs as the graph takes them."""
        answer = self.signature.outputs[-1].name  # after the label, where there is one
        return np.asarray(self._model.predict(dict(given), (answer,))[answer])

    def outputs(self, batch: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Array]:
        """Return these outputs by name."""
        given = {spec.name: feed(spec, batch[spec.name]) for spec in self.signature.inputs}
        return {name: np.asarray(values) for name, values in self._model.predict(given, names).items()}

    def close(self) -> None:
        """Free it."""
        self._model.close()


def feed(spec: TensorSpec, values: Any) -> Array:
    """Return a column as the input wants it; a missing category becomes a value that is none of the categories."""
    if spec.type != "category":
        return np.ascontiguousarray(values, dtype=_DTYPES.get(spec.datatype, np.object_))
    listed = np.asarray(values).tolist()
    if spec.datatype == "BYTES":
        word = next(text for text in ("?" * n for n in range(len(spec.categories) + 1)) if text not in spec.categories)
        return np.array([word if _missing(value) else str(value) for value in listed], dtype=np.object_)
    number = next(n for n in range(0, -len(spec.categories) - 1, -1) if n not in spec.categories)
    return np.array([number if _missing(value) else value for value in listed], dtype=np.int64)


def _missing(value: object) -> bool:
    return value is None or value != value
