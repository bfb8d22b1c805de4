"""What a worker computes with, and what a caller is told when that fails."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from leptonai.core.errors import Invalid, LeptonError, Unavailable, Unsupported
from leptonai.core.signature import Signature

LOADING = "it cannot be loaded"


class Computing(Protocol):
    """A version that was loaded."""

    def predict(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Compute one batch: arrays by input name to arrays by output name, all as the signature says."""

    def stream(self, inputs: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the pieces of the answer to one row."""


class Trained:
    """A model that was trained here, computed by its framework."""

    def __init__(self, predictor: Any, signature: Signature):
        self._predictor = predictor
        self._signature = signature

    def predict(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `Computing`."""
        scores = self._predictor.scores(inputs)
        signature = self._signature
        if scores.dtype.names is not None:
            return self._several(scores)
        found = np.asarray(scores, np.float32)
        if signature.task in ("regression", "custom"):
            shape = [len(found) if d == -1 and axis == 0 else d for axis, d in enumerate(signature.outputs[0].shape)]
            return {signature.outputs[0].name: found.reshape(shape)}
        if found.ndim == 1:  # of two classes, the probability of the second
            found = np.stack([1 - found, found], axis=1)
        first, second = signature.outputs
        classes = np.array(signature.classes, object if first.datatype == "BYTES" else np.int64)
        return {first.name: classes[found.argmax(axis=1)], second.name: found}

    def _several(self, scores: Any) -> Mapping[str, Any]:
        """Return the outputs of each target: its value, or its class with the probabilities after it."""
        found: dict[str, Any] = {}
        outputs = iter(self._signature.outputs)
        for name in scores.dtype.names:
            first, given = next(outputs), np.ascontiguousarray(scores[name])
            if not first.categories:
                found[first.name] = given.reshape(len(given))
                continue
            classes = np.array(first.categories, object if first.datatype == "BYTES" else np.int64)
            found |= {first.name: classes[given.argmax(axis=1)], next(outputs).name: given}
        return found

    def stream(self, inputs: Mapping[str, Any]) -> Iterator[Any]:  # noqa: ARG002 - it is not supported
        """See `Computing`."""
        raise Unsupported("this model gives whole answers only: post to …/predict")


def said(error: BaseException, what: str) -> LeptonError:
    """Return what a caller is told of an error: what our own errors say, and of any other only its kind.

    Its traceback is in the log of the worker, and its words may hold what no caller is to know.
    """
    if isinstance(error, LeptonError):
        return error
    if isinstance(error, MemoryError):
        return Unavailable("it needs more memory than its limit: raise memory_mb, or send fewer rows at once")
    kind = type(error).__name__[:60]
    if what == LOADING:  # to its owner, who wrote it
        return Invalid(f"{what}: {kind}: {error}"[:500])
    return LeptonError(f"{what} with {'an' if kind[:1] in 'AEIOU' else 'a'} {kind}; the log of its worker says where")
