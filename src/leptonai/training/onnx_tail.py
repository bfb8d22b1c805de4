"""The tail of a published model: raw outputs in, probabilities and a label (or a prediction) out."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import TensorProto

from leptonai.core.errors import Unsupported
from leptonai.core.several import PROBABILITIES
from leptonai.core.signature import TensorSpec
from leptonai.training.onnx_parts import Parts
from leptonai.training.spec import Encoding, GoalCode

Shape = tuple[int, ...] | Mapping[str, tuple[int, ...]]  # of one raw output, without the batch; of several targets each
Activations = str | Mapping[str, str]  # likewise


def outputs(encoding: Encoding, shape: Shape) -> tuple[TensorSpec, ...]:
    """Return the outputs of the model.

    A column may be called ``label`` too; then the output is called ``label_``, for names in a graph are unique. Of several targets
    each has an output of its own name, and one of classes another one with the probabilities.
    """
    if encoding.goals:
        return tuple(spec for goal in encoding.goals for spec in of_goal(encoding, goal))
    assert isinstance(shape, tuple)  # noqa: S101  (there is one)
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


def of_goal(encoding: Encoding, goal: GoalCode) -> tuple[TensorSpec, ...]:
    """Return the outputs of one of several targets; the last one is what the framework's scores are compared with."""
    name = _free(goal.column, encoding)
    if goal.task == "regression":
        return (TensorSpec(name=name, datatype="FP32", shape=(-1,)),)
    words = isinstance(goal.classes[0], str)
    return (
        TensorSpec(name=name, datatype="BYTES" if words else "INT64", shape=(-1,), categories=goal.classes),
        TensorSpec(
            name=_free(goal.column + PROBABILITIES, encoding),
            datatype="FP32",
            shape=(-1, len(goal.classes)),
            categories=goal.classes,
        ),
    )


def _free(name: str, encoding: Encoding) -> str:
    others = {goal.column for goal in encoding.goals} if name.endswith(PROBABILITIES) else set()
    while name in others or any(feature.column == name for feature in encoding.features):
        name += "_"
    return name


def decide(parts: Parts, raws: Sequence[str], shape: Shape, activation: Activations, encoding: Encoding) -> None:
    """Add the tail; its outputs are named as `outputs` says. Raises `Unsupported` when the shape is not one of scores.

    `raws`: the model's outputs, of several targets in their order.
    """
    if not encoding.goals:
        assert isinstance(shape, tuple) and isinstance(activation, str)  # noqa: S101  (there is one)
        names = [spec.name for spec in outputs(encoding, shape)]
        _decide(parts, raws[0], names, shape, activation, encoding.task, encoding.classes)
        return
    assert isinstance(shape, Mapping) and isinstance(activation, Mapping)  # noqa: S101  (there are several)
    for goal, raw in zip(encoding.goals, raws, strict=True):
        names = [spec.name for spec in of_goal(encoding, goal)]
        given = shape[goal.column] if goal.task == "classification" else ()
        _decide(parts, raw, names, given, activation[goal.column], goal.task, goal.classes)


def _decide(
    parts: Parts,
    raw: str,
    names: Sequence[str],
    shape: tuple[int, ...],
    activation: str,
    task: str,
    classes: Sequence[str | int],
) -> None:
    raw = parts.cast(raw, TensorProto.FLOAT)
    if task == "regression":  # in the shape of `Learner.predict`: an exporter may give (batch, 1) for (batch,)
        parts.add("Reshape", raw, parts.constant([-1, *shape], np.int64), output=names[0])
        return
    label, probabilities = names
    parts.add("Identity", _probabilities(parts, raw, shape, activation, len(classes)), output=probabilities)
    best = parts.add("ArgMax", probabilities, axis=1, keepdims=0)
    words = isinstance(classes[0], str)
    known = [c.encode() if isinstance(c, str) else c for c in classes]
    parts.add("Gather", parts.constant(known, object if words else np.int64), best, output=label)


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
