"""The answers of the protocol, written from pieces that are ready before the first request."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from leptonai.core.signature import Signature
from leptonai.serving.plane import binary
from leptonai.serving.plane.grpc.messages import ModelInferResponse
from leptonai.serving.plane.grpc.tensors import Asked, varint

REMEMBERED = 256  # shapes of outputs

_CONTENTS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "INT64": "int64_contents", "FP32": "fp32_contents",
    "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


class Writer:
    """Writes the answers of one model version under one name, as the bytes of a ``ModelInferResponse``."""

    def __init__(self, name: str, version: str, signature: Signature):
        self._name, self._version = name, version
        self._start = _text(1, name) + _text(2, version)
        self._kinds = {spec.name: spec.datatype for spec in signature.outputs}
        self._tensors: dict[tuple[str, tuple[int, ...]], bytes] = {}

    def write(self, asked: Asked, outputs: Mapping[str, Any]) -> bytes:
        """Return the answer: every output that is wanted, with its shape and its values in row-major order."""
        if not asked.raw:
            return self._typed(asked, outputs)
        pieces = [self._start, _text(3, asked.id) if asked.id else b""]
        raw: list[bytes] = []
        for name in asked.outputs:
            found = outputs[name]
            pieces.append(self._tensor(name, found.shape))
            data = binary.dump(found)
            raw += (b"\x32", varint(len(data)), data)  # field 6: raw_output_contents
        return b"".join((*pieces, *raw))

    def _tensor(self, name: str, shape: tuple[int, ...]) -> bytes:
        """Return one of the ``outputs``, field 5, without contents."""
        found = self._tensors.get((name, shape))
        if found is None:
            sizes = b"".join(varint(size) for size in shape)
            inside = _text(1, name) + _text(2, self._kinds[name]) + b"\x1a" + varint(len(sizes)) + sizes
            found = b"\x2a" + varint(len(inside)) + inside
            if len(self._tensors) >= REMEMBERED:
                self._tensors.clear()
            self._tensors[name, shape] = found
        return found

    def _typed(self, asked: Asked, outputs: Mapping[str, Any]) -> bytes:
        """Return the answer to a request whose numbers were lists: so are those of the answer."""
        made = ModelInferResponse(model_name=self._name, model_version=self._version, id=asked.id)
        for name in asked.outputs:
            found, kind = outputs[name], self._kinds[name]
            tensor = made.outputs.add(name=name, datatype=kind, shape=found.shape)
            values = found.ravel()
            if kind == "BYTES":
                listed = [str(value).encode() for value in values]
            else:
                listed = np.ascontiguousarray(values).tolist()
            getattr(tensor.contents, _CONTENTS[kind]).extend(listed)
        data: bytes = made.SerializeToString()
        return data


def _text(number: int, text: str) -> bytes:
    """Return a field that holds text."""
    data = text.encode()
    return bytes((number << 3 | 2,)) + varint(len(data)) + data
