"""scikit-learn to ONNX: skl2onnx, whole pipelines, with probabilities (or predictions) as the one output."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common import _container
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType
from sklearn.base import is_classifier
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.svm import LinearSVC

from leptonai.adapters.frameworks import ratings_onnx, sklearn_categories_onnx
from leptonai.adapters.frameworks.onnx_quiet import quiet
from leptonai.core.ports import Learner, Route

OPSETS = {"": 20, "ai.onnx.ml": 3}
NOT_USED = {
    "Scaler"
}  # multiplies where scikit-learn divides: a last digit, which sends a row down another branch of a tree


def routes(learner: Learner, example: Any) -> Iterator[Route]:
    """Yield the ways to export a fitted estimator, best first. `example` is a batch of its inputs, (rows, columns).

    float32 is smaller and quicker; float64 is there for estimators whose thresholds or sums float32 would blur.
    """
    ratings_onnx.register()
    sklearn_categories_onnx.register()
    shape = [None, example.shape[1]]
    outputs = np.shape(learner.predict(example[:1]))[1:]
    if example.dtype.kind in "iu":
        yield Route("skl2onnx, whole numbers", lambda: _convert(learner.model, Int64TensorType(shape), outputs))
    yield Route("skl2onnx, float32", lambda: _convert(learner.model, FloatTensorType(shape), outputs))
    yield Route("skl2onnx, float64", lambda: _convert(learner.model, DoubleTensorType(shape), outputs))


def _convert(estimator: Any, kind: Any, outputs: tuple[int, ...]) -> bytes:
    with quiet(), _plain_integers(), _votes_apart(estimator):
        model: onnx.ModelProto = to_onnx(
            estimator, initial_types=[("x", kind)], target_opset=OPSETS, options=_options(estimator), black_op=NOT_USED
        )
    del model.graph.output[:-1]  # a classifier's label comes first; what decides is the tail of the published graph
    if is_classifier(estimator):
        if outputs == (1,):
            _second_of_two(model.graph)
        elif outputs[0] > len(estimator.classes_):
            _spread(model.graph, estimator, outputs[0])
    _drop_unused(model.graph)
    return bytes(model.SerializeToString())


def _options(estimator: Any) -> dict[str, Any] | None:
    if not is_classifier(estimator):
        return None
    if hasattr(estimator, "predict_proba"):
        return {"zipmap": False}
    return {"raw_scores": True} | ({} if isinstance(estimator, LinearSVC) else {"zipmap": False})


def _second_of_two(graph: onnx.GraphProto) -> None:
    """Keep the score of the second class, as `decision_function` gives it; skl2onnx gives both, the first negated."""
    both = graph.output[0].name
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "second"))
    graph.node.append(onnx.helper.make_node("Gather", [both, "second"], ["score"], axis=1))
    graph.output[0].name = "score"


def _spread(graph: onnx.GraphProto, estimator: Any, classes: int) -> None:
    """Put each score at the place of its class, as `SklearnLearner.predict` does where the training part lacked classes."""
    known = [int(place) for place in estimator.classes_]
    places = [known.index(place) if place in known else len(known) for place in range(classes)]
    none = 0.0 if hasattr(estimator, "predict_proba") else -np.inf
    for name, value in (
        ("pads", np.array([0, 0, 0, 1], np.int64)),
        ("none", np.array(none, np.float32)),
        ("places", np.array(places, np.int64)),
    ):
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    node = onnx.helper.make_node
    graph.node.append(node("Cast", [graph.output[0].name], ["float_scores"], to=onnx.TensorProto.FLOAT))
    graph.node.append(node("Pad", ["float_scores", "pads", "none"], ["padded"]))
    graph.node.append(node("Gather", ["padded", "places"], ["all_scores"], axis=1))
    graph.output[0].name = "all_scores"


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Take out the nodes and constants that only the label needed."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            needed.update(name for attribute in node.attribute for name in _names(attribute))
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def _names(attribute: onnx.AttributeProto) -> Iterator[str]:
    """Yield what a graph inside a node (the body of a Scan) takes from the graph around it, and more."""
    for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
        for node in graph.node:
            yield from node.input
            for inner in node.attribute:
                yield from _names(inner)
        yield from (value.name for value in graph.output)


@contextmanager
def _plain_integers() -> Iterator[None]:
    """Let skl2onnx give truth values where onnx 1.20 and later take integers only (seen with histogram boosting)."""
    make_node = _container.make_node

    def make(*args: Any, **attributes: Any) -> onnx.NodeProto:
        node: onnx.NodeProto = make_node(*args, **{name: _integers(value) for name, value in attributes.items()})
        return node

    _container.make_node = make
    try:
        yield
    finally:
        _container.make_node = make_node


def _integers(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(item, bool) for item in value):
        return [int(item) for item in value]
    return value


@contextmanager
def _votes_apart(estimator: Any) -> Iterator[None]:
    """Turn off an option of voting that changes only `transform`, and that skl2onnx refuses; it takes weights as an array only."""
    parts = [estimator, *estimator.get_params(deep=True).values()]
    votes = [part for part in parts if isinstance(part, VotingClassifier) and part.flatten_transform]
    voting = [part for part in parts if isinstance(part, (VotingClassifier, VotingRegressor))]
    weighed = [(part, part.weights) for part in voting if part.weights is not None]
    try:
        for vote in votes:
            vote.flatten_transform = False
        for vote, weights in weighed:
            vote.weights = np.asarray(weights, np.float64)
        yield
    finally:
        for vote in votes:
            vote.flatten_transform = True
        for vote, weights in weighed:
            vote.weights = weights
