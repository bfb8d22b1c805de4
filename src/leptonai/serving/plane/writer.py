"""Answers of the Open Inference Protocol, made of pieces that are ready before the first request."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from leptonai.core.nouns import Signature
from leptonai.serving.plane import binary
from leptonai.serving.plane.v2 import Request

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_JSON = b"content-type: application/json\r\n"


class Written(NamedTuple):
    """A body, and the header lines that say what it is."""

    body: bytes
    head: bytes = _JSON


class Writer:
    """Writes the answers of one model version under one name."""

    def __init__(self, name: str, version: str, signature: Signature):
        self._start = b'{"model_name":%s,"model_version":%s' % (orjson.dumps(name), orjson.dumps(version))
        self._tensors = {
            spec.name: b'{"name":%s,"datatype":%s,"shape":' % (orjson.dumps(spec.name), orjson.dumps(spec.datatype))
            for spec in signature.outputs
        }

    def write(self, asked: Request, outputs: Mapping[str, Any]) -> Written:
        """Return the answer: every output that is wanted, with its shape and its values in row-major order."""
        tensors: list[bytes] = []
        raw: list[bytes] = []
        for name in self._tensors:  # in the order of the signature
            if name not in asked.outputs:
                continue
            found = outputs[name]
            shape = orjson.dumps(found.shape)
            if name in asked.binary:
                data = binary.dump(found)
                raw.append(data)
                tensors.append(b'%s%s,"parameters":{"binary_data_size":%d}}' % (self._tensors[name], shape, len(data)))
            else:
                tensors.append(b'%s%s,"data":%s}' % (self._tensors[name], shape, _values(found)))
        id = b"" if asked.id is None else b',"id":' + orjson.dumps(asked.id)
        text = b'%s,"outputs":[%s]%s}' % (self._start, b",".join(tensors), id)
        if not raw:
            return Written(text)
        head = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(text)
        return Written(b"".join((text, *raw)), head)


def _values(found: Any) -> bytes:
    if found.dtype == np.object_:
        return orjson.dumps(found.ravel().tolist())
    return orjson.dumps(np.ascontiguousarray(found).reshape(-1), option=_NUMPY)
