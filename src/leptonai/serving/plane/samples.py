"""Made-up batches for a model: nothing is known of it but its signature."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from leptonai.core.signature import FeatureType, Signature, TensorSpec
from leptonai.serving.plane.values import DATATYPES

OPEN_LENGTH = 16  # of an axis that may have any length, but for the batch
_MICROSECONDS = (946_684_800_000_000, 1_893_456_000_000_000)  # the years 2000 to 2029
_WORDS = ("", "a", "word", "Zürich", "2026-01-31")
_FAR = {"far": 2**30, "wide": 2**60}  # integers that fit in 32 bits, and that do not


class Sample(NamedTuple):
    """A batch, and what is special about its values."""

    kind: str  # "plain", "usual", "gaps", "far" or "wide"
    inputs: dict[str, Any]  # arrays whose first axis is the batch


def plain(signature: Signature, rows: int) -> Sample:
    """Return zeros, empty texts and first categories: what any model must be able to compute."""
    return Sample("plain", {spec.name: _plain(spec, (rows, *_rest(spec, 1))) for spec in signature.inputs})


def usual(signature: Signature, rows: int, seed: int = 0) -> Sample:
    """Return random values such as the signature leads to expect: known categories, pixels, dates, numbers of some size."""
    random = np.random.default_rng(seed)
    return Sample("usual", {spec.name: _usual(spec, rows, random) for spec in signature.inputs})


def odd(signature: Signature, rows: int, seed: int = 0) -> Iterator[Sample]:
    """Yield batches that a caller may well send, and that models and runtimes treat differently.

    "gaps": missing numbers; "far" and "wide": whole numbers far outside of what is expected, within 32 bits and beyond.
    """
    inputs = usual(signature, rows, seed).inputs
    random = np.random.default_rng(seed)
    columns = [spec.name for spec in signature.inputs if spec.type is FeatureType.NUMBER and spec.datatype[:2] == "FP"]
    if columns:
        gaps = {name: np.where(random.random(inputs[name].shape) < 0.3, np.nan, inputs[name]) for name in columns}
        yield Sample("gaps", {**inputs, **{name: made.astype(inputs[name].dtype) for name, made in gaps.items()}})
    whole = [spec.name for spec in signature.inputs if spec.datatype == "INT64"]
    for kind, size in _FAR.items() if whole else ():
        yield Sample(kind, {**inputs, **{name: random.integers(-size, size, inputs[name].shape) for name in whole}})


def _rest(spec: TensorSpec, length: int) -> tuple[int, ...]:
    return tuple(length if d == -1 else d for d in spec.shape[1:])


def _plain(spec: TensorSpec, shape: tuple[int, ...]) -> Any:
    dtype = DATATYPES[spec.datatype].numpy
    if spec.categories:
        return np.full(shape, spec.categories[0], dtype)
    return np.full(shape, "", dtype) if spec.datatype == "BYTES" else np.zeros(shape, dtype)


def _usual(spec: TensorSpec, rows: int, random: np.random.Generator) -> Any:
    shape, dtype = (rows, *_rest(spec, OPEN_LENGTH)), DATATYPES[spec.datatype].numpy
    if spec.categories or spec.datatype == "BYTES":
        return random.choice(np.array(spec.categories or _WORDS, object), shape).astype(dtype)
    if spec.type is FeatureType.DATETIME:
        return random.integers(*_MICROSECONDS, shape)
    if spec.datatype == "BOOL":
        return random.random(shape) < 0.5
    if spec.datatype in ("UINT8", "INT64"):
        top = 256 if spec.datatype == "UINT8" else 1000 if spec.type is FeatureType.INTEGER else 10
        return random.integers(0, top, shape).astype(dtype)
    size = random.choice([1.0, 10.0, 100.0], shape) if spec.type is FeatureType.NUMBER else 1.0
    return (random.standard_normal(shape) * size).astype(dtype)
