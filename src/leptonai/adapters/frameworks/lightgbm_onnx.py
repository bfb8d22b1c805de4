"""Trees of LightGBM as one ONNX operator: the same comparisons, in float32.

LightGBM compares a float32 with a threshold of 64 bits; the largest float32 that is not above the threshold decides the same. A split
by categories becomes several comparisons: see `trees_onnx`.
"""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper

from leptonai.adapters.frameworks.lightgbm_learner import LightgbmLearner
from leptonai.adapters.frameworks.trees_onnx import Step, steps
from leptonai.core.errors import Unsupported
from leptonai.core.ports import Learner, Route

_LISTS = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids", "nodes_falsenodeids",
    "nodes_missing_value_tracks_true", "nodes_hitrates", "target_treeids", "target_nodeids", "target_ids", "target_weights",
)  # fmt: skip


def routes(learner: Learner, example: Any) -> Iterator[Route]:
    """Yield the one way to export. `example` is a batch of its inputs, (rows, columns)."""
    found = cast(LightgbmLearner, learner)
    yield Route("trees, float32", lambda: _graph(found, example.shape[1]))


def _graph(learner: LightgbmLearner, columns: int) -> bytes:
    model = learner.trees.dump_model()
    several = int(model["num_tree_per_iteration"])
    lists: dict[str, list[Any]] = {name: [] for name in _LISTS}
    for number, tree in enumerate(model["tree_info"]):
        _Tree(lists, number, number % several).add(tree["tree_structure"])
    about: dict[str, Any] = {name: values for name, values in lists.items() if values}
    nodes = [
        helper.make_node(
            "TreeEnsembleRegressor", ["x"], ["sums"], domain="ai.onnx.ml", n_targets=several, aggregate_function="SUM",
            post_transform="NONE", **about,
        )
    ]  # fmt: skip
    if learner.is_power:
        nodes.append(helper.make_node("Exp", ["sums"], ["values"]))
    graph = helper.make_graph(
        nodes,
        "lightgbm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None, several])],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bytes(made.SerializeToString())


class _Tree:
    """Writes one tree into the lists of the operator."""

    def __init__(self, lists: dict[str, list[Any]], number: int, target: int):
        self._lists, self._number, self._target, self._next = lists, number, target, 0

    def add(self, node: dict[str, Any]) -> int:
        """Add a node and all below it; return its number. Trees are deep by tens, not by thousands."""
        if "leaf_value" in node:
            mine, _ = self._written("LEAF", 0, 0.0)
            for name, part in zip(
                _LISTS[9:], (self._number, mine, self._target, float(node["leaf_value"])), strict=True
            ):
                self._lists[name].append(part)
            return mine
        found = _comparisons(node)
        written = [self._written("BRANCH_LEQ", int(node["split_feature"]), step.at_most) for step in found]
        children = {True: self.add(node["left_child"]), False: self.add(node["right_child"])}
        after = [mine for mine, _ in written[1:]] + [children[not found[-1].left]]
        for (_, at), step, other in zip(written, found, after, strict=True):
            self._lists["nodes_missing_value_tracks_true"][at] = int(step.takes_missing)
            self._lists["nodes_truenodeids"][at] = children[step.left]
            self._lists["nodes_falsenodeids"][at] = other
        return written[0][0]

    def _written(self, mode: str, column: int, value: float) -> tuple[int, int]:
        """Write a node that leads nowhere yet; return its number, and where it stands in the lists."""
        mine, self._next = self._next, self._next + 1
        at = len(self._lists["nodes_treeids"])
        for name, part in zip(_LISTS[:9], (self._number, mine, column, value, mode, 0, 0, 0, 1.0), strict=True):
            self._lists[name].append(part)
        return mine, at


def _comparisons(node: dict[str, Any]) -> tuple[Step, ...]:
    """Return a split as comparisons. What is missing is taken as 0 where the training part had nothing missing."""
    missing = str(node["missing_type"])
    if missing == "Zero":
        raise Unsupported("trees that take 0 as missing cannot be published")
    if node["decision_type"] == "<=":
        threshold = float(node["threshold"])
        goes_left = bool(node["default_left"]) if missing == "NaN" else threshold >= 0
        return (Step(_not_above(threshold), left=True, takes_missing=goes_left),)
    known = {int(place) for place in str(node["threshold"]).split("||")}
    return steps([place in known for place in range(-1, max(known) + 2)], missing != "NaN" and 0 in known)


def _not_above(threshold: float) -> float:
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and below that the largest
        near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))
