"""The tail of a published model: raw outputs in, probabilities and a label (or a prediction) out."""

import numpy as np
from onnx import TensorProto

from leptonai.core.errors import Unsupported
from leptonai.core.signature import TensorSpec
from leptonai.training.onnx_parts import Parts
from leptonai.training.spec import Encoding


def outputs(encoding: Encoding, shape: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    """Return the outputs of the model. `shape` is that of one raw output, without the batch.

    A column may be called ``label`` too; then the output is called ``label_``, for names in a graph are unique.
    """
    if encoding.task == "regression":
        return (TensorSpec(name=_free("prediction", encoding), datatype="FP32", shape=(-1, *shape)),)
    if encoding.task == "generation":
        return (TensorSpec(name=_free("perplexity", encoding), datatype="FP32", shape=(-1, *shape)),)
    words = isinstance(encoding.classes[0], str)
    return (
        TensorSpec(
            name=_free("label", encoding),
            datatype="BYTES" if words else "INT64",
            shape=(-1,),
            categories=encoding.classes,
        ),
        TensorSpec(name=_free("probabilities", encoding), datatype="FP32", shape=(-1, len(encoding.classes))),
    )


def _free(name: str, encoding: Encoding) -> str:
    while any(feature.column == name for feature in encoding.features):
        name += "_"
    return name


def decide(parts: Parts, raw: str, shape: tuple[int, ...], activation: str, encoding: Encoding) -> None:
    """Add the tail; its outputs are named as `outputs` says. Raises `Unsupported` when the shape is not one of scores."""
    names = [spec.name for spec in outputs(encoding, shape)]
    raw = parts.cast(raw, TensorProto.FLOAT)
    if encoding.task == "regression":  # in the shape of `Learner.predict`: an exporter may give (batch, 1) for (batch,)
        parts.add("Reshape", raw, parts.constant([-1, *shape], np.int64), output=names[0])
        return
    label, probabilities = names
    parts.add("Identity", _probabilities(parts, raw, shape, activation, len(encoding.classes)), output=probabilities)
    best = parts.add("ArgMax", probabilities, axis=1, keepdims=0)
    words = isinstance(encoding.classes[0], str)
    classes = [c.encode() if isinstance(c, str) else c for c in encoding.classes]
    parts.add("Gather", parts.constant(classes, object if words else np.int64), best, output=label)


def _probabilities(parts: Parts, raw: str, shape: tuple[int, ...], activation: str, classes: int) -> str:
    if shape not in ((), (1,), (classes,)):
        raise Unsupported(f"the model gives values of shape {shape} where {classes} classes need ({classes},)")
    raw = parts.add("Reshape", raw, parts.constant([-1, *(shape or (1,))], np.int64))
    if activation == "softmax":
        raw = parts.add("Softmax", raw, axis=1)
    elif activation == "sigmoid":
        raw = parts.add("Sigmoid", raw)
    if shape == (classes,):
        return raw
    return parts.concat([parts.add("Sub", parts.constant(1.0, np.float32), raw), raw])
