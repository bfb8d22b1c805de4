"""What came of a batch, and each request's part of it. What can be done for all rows at once is done once."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class Batch:
    """The outputs of one computation, arrays by name whose first axis is the batch."""

    __slots__ = ("_texts", "answers", "outputs")

    def __init__(self, outputs: Mapping[str, Any]):
        self.outputs = outputs
        self._texts: dict[str, list[bytes]] = {}
        self.answers: dict[Any, list[bytes]] = {}  # that were written for each row, by who wrote them and how

    def texts(self, name: str) -> list[bytes]:
        """Return the values of each row as JSON with commas between, in row-major order."""
        found = self._texts.get(name)
        if found is None:
            found = self._texts[name] = _rows(self.outputs[name])
        return found


class Part(Mapping[str, Any]):
    """The rows of one request in a batch: its outputs by name."""

    __slots__ = ("batch", "start", "stop")

    def __init__(self, batch: Batch, start: int, stop: int):
        self.batch = batch
        self.start = start
        self.stop = stop

    def __getitem__(self, name: str) -> Any:
        return self.batch.outputs[name][self.start : self.stop]

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.outputs)

    def __len__(self) -> int:
        return len(self.batch.outputs)

    def text(self, name: str) -> bytes:
        """Return all values of an output as JSON with commas between."""
        texts = self.batch.texts(name)
        return texts[self.start] if self.stop == self.start + 1 else b",".join(texts[self.start : self.stop])


def _rows(found: Any) -> list[bytes]:
    if found.dtype == np.object_:
        return [orjson.dumps(row.tolist())[1:-1] for row in found.reshape(len(found), -1)]
    if found.ndim == 1:
        return orjson.dumps(np.ascontiguousarray(found), option=_NUMPY)[1:-1].split(b",")
    return orjson.dumps(np.ascontiguousarray(found).reshape(len(found), -1), option=_NUMPY)[2:-2].split(b"],[")
