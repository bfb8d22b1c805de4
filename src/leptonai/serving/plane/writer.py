"""Answers of the Open Inference Protocol, made of pieces that are ready before the first request."""

from collections.abc import Mapping

import orjson

from leptonai.core.signature import Signature
from leptonai.serving.plane import binary
from leptonai.serving.plane.outputs import Batch, Part
from leptonai.serving.plane.v2 import Request

_SHAPES = 512
_JSON = b"content-type: application/json\r\n"


class Written:
    """A body, and the header lines that say what it is."""

    __slots__ = ("body", "head")

    def __init__(self, body: bytes, head: bytes = _JSON):
        self.body = body
        self.head = head


class Writer:
    """Writes the answers of one model version under one name."""

    def __init__(self, name: str, version: str, signature: Signature):
        self._start = b'{"model_name":%s,"model_version":%s' % (orjson.dumps(name), orjson.dumps(version))
        self._tensors = {
            spec.name: b'{"name":%s,"datatype":%s,"shape":' % (orjson.dumps(spec.name), orjson.dumps(spec.datatype))
            for spec in signature.outputs
        }
        self._shapes: dict[tuple[int, ...], bytes] = {}  # that came up, as JSON
        self._forms: dict[tuple[tuple[str, tuple[int, ...]], ...], bytes] = {}  # of answers with these outputs

    def write(self, asked: Request, outputs: Part) -> Written:
        """Return the answer: every output that is wanted, with its shape and its values in row-major order."""
        if outputs.stop == outputs.start + 1 and asked.id is None and not asked.binary:
            return Written(self._each(asked.outputs, outputs.batch)[outputs.start])
        tensors: list[bytes] = []
        raw: list[bytes] = []
        for name, start in self._tensors.items():  # in the order of the signature
            if name not in asked.outputs:
                continue
            found = outputs[name]
            shape = self._shape(found.shape)
            if name in asked.binary:
                data = binary.dump(found)
                raw.append(data)
                tensors.append(b'%s%s,"parameters":{"binary_data_size":%d}}' % (start, shape, len(data)))
            else:
                tensors.append(b'%s%s,"data":[%s]}' % (start, shape, outputs.text(name)))
        id = b"" if asked.id is None else b',"id":' + orjson.dumps(asked.id)
        text = b'%s,"outputs":[%s]%s}' % (self._start, b",".join(tensors), id)
        if not raw:
            return Written(text)
        head = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(text)
        return Written(b"".join((text, *raw)), head)

    def each(self, asked: Request, outputs: Part) -> tuple[list[bytes], bytes]:
        """Return the answers to requests of one row each, which ask the same, and the header lines that all of them have.

        They ask for no output as raw bytes, or for all of them, and those are numbers.
        """
        if not asked.binary:
            return self._each(asked.outputs, outputs.batch)[outputs.start : outputs.stop], _JSON
        first = self.write(asked, Part(outputs.batch, outputs.start, outputs.start + 1))
        raw = [binary.dump(outputs[name]) for name in self._tensors if name in asked.outputs]
        rows = range(outputs.stop - outputs.start)
        sizes = [len(data) // len(rows) for data in raw]
        text = first.body[: len(first.body) - sum(sizes)]  # the same for each: only what follows differs
        each = [[data[row * size : (row + 1) * size] for data, size in zip(raw, sizes, strict=True)] for row in rows]
        return [b"".join((text, *values)) for values in each], first.head

    def _each(self, names: tuple[str, ...], batch: Batch) -> list[bytes]:
        """Return the answers to requests of one row each, for all rows of a batch at once: only the values differ."""
        found = batch.answers.get((self, names))
        if found is None:
            wanted = [name for name in self._tensors if name in names]
            form = self._form({name: (1, *batch.outputs[name].shape[1:]) for name in wanted})
            rows = zip(*[batch.texts(name) for name in wanted], strict=True)
            found = batch.answers[(self, names)] = [form % row for row in rows]
        return found

    def _form(self, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
        """Return an answer with ``%s`` where the values of its outputs belong. `shapes`: of those that it has."""
        key = tuple(shapes.items())
        found = self._forms.get(key)
        if found is None:
            starts = [self._tensors[name] + self._shape(shape) for name, shape in key]
            tensors = b",".join([start.replace(b"%", b"%%") + b',"data":[%s]}' for start in starts])
            found = b'%s,"outputs":[%s]}' % (self._start.replace(b"%", b"%%"), tensors)
            if len(self._forms) < _SHAPES:
                self._forms[key] = found
        return found

    def _shape(self, shape: tuple[int, ...]) -> bytes:
        found = self._shapes.get(shape)
        if found is None:
            found = orjson.dumps(shape)
            if len(self._shapes) < _SHAPES:
                self._shapes[shape] = found
        return found
