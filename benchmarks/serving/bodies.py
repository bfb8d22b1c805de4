"""The same image in the words of each protocol: Open Inference Protocol (JSON, binary), KServe's V1, plain lists, raw bytes."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from serving.load import Request

TURNS = 16  # different images that take turns
JSON = {"Content-Type": "application/json"}
BYTES = {"Content-Type": "application/octet-stream"}


def v2(path: str, name: str, images: np.ndarray, datatype: str = "FP32") -> Request:
    """The Open Inference Protocol: one tensor as a flat list of numbers."""

    def body(image: np.ndarray) -> bytes:
        tensor = {"name": name, "shape": [1, *image.shape], "datatype": datatype, "data": _flat(image)}
        return _dump({"inputs": [tensor]})

    return Request(path, [body(image) for image in images], JSON)


def v2_binary(path: str, name: str, output: str, images: np.ndarray, datatype: str = "FP32") -> Request:
    """The same with its binary extension, both ways: the tensor's bytes follow the JSON."""
    shape = [1, *images.shape[1:]]
    size = images[0].nbytes
    tensor = {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
    head = _dump({"inputs": [tensor], "outputs": [{"name": output, "parameters": {"binary_data": True}}]})
    headers = {**BYTES, "Inference-Header-Content-Length": str(len(head))}
    return Request(path, [head + image.tobytes() for image in images], headers)


def wrapped(path: str, images: np.ndarray, field: str, *, rows: bool = True, nested: bool = False) -> Request:
    """A JSON object with the numbers in one field: of a list of rows, or of one; flat, or in the image's shape."""

    def body(image: np.ndarray) -> bytes:
        numbers = _nested(image) if nested else _flat(image)
        return _dump({field: [numbers] if rows else numbers})

    return Request(path, [body(image) for image in images], JSON)


def raw(path: str, images: np.ndarray) -> Request:
    """The bytes of the image and nothing else."""
    return Request(path, [image.tobytes() for image in images], BYTES)


def scores_of(answer: bytes, headers: Mapping[str, str] | None = None) -> list[float]:
    """Return the ten scores that an answer of any of these protocols holds."""
    told = headers or {}
    length = told.get(
        "inference-header-content-length", "0" if told.get("content-type") == BYTES["Content-Type"] else None
    )
    if length is not None:
        return np.frombuffer(answer[int(length) :], np.float32)[:10].tolist()
    return _numbers(json.loads(answer))[:10]


def _numbers(value: object) -> list[float]:
    """Return the first list of ten numbers or more in a document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        if len(value) >= 10 and all(isinstance(item, int | float) for item in value):
            return value
        for item in value:
            if found := _numbers(item):
                return found
    return []


def _flat(image: np.ndarray) -> list[float]:
    return _nested(image.ravel())


def _nested(image: np.ndarray) -> list[float]:
    # As people send them: the shortest text that gives back the same float32, such as 0.49803922.
    return np.vectorize(lambda value: float(str(value)), otypes=[np.float64])(image).tolist()


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def pick(images: np.ndarray, turns: int = TURNS) -> np.ndarray:
    """Return the images that take turns."""
    return np.ascontiguousarray(images[:turns])


def same(found: Sequence[float], expected: Sequence[float]) -> bool:
    """Whether scores, or probabilities made of them, tell the same class."""
    return len(found) == len(expected) and int(np.argmax(found)) == int(np.argmax(expected))
