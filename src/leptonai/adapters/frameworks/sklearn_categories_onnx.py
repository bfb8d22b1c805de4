"""Histogram boosting that splits by categories: skl2onnx is given the same trees with comparisons in their place, see `trees_onnx`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import RegisteredConverter, get_converter, get_shape_calculator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from leptonai.adapters.frameworks.trees_onnx import steps
from leptonai.core.errors import Unsupported

_ALIAS = "Leptonai"


def register() -> None:
    """Tell skl2onnx how to convert them."""
    for kind in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):
        name = sklearn_operator_name_map[kind]
        if not name.startswith(_ALIAS):
            usual: RegisteredConverter = get_converter(name)
            convert, options = _converter(usual), usual.get_allowed_options()
            update_registered_converter(kind, _ALIAS + name, get_shape_calculator(name), convert, options=options)


def _converter(usual: Callable[..., None]) -> Callable[..., None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        model = operator.raw_operator
        trees = model._predictors
        if model.is_categorical_ is not None:
            model._predictors = [[_compared(tree, model) for tree in round_] for round_ in trees]
        try:
            usual(scope, operator, container)
        finally:
            model._predictors = trees

    return convert


def _compared(tree: Any, model: Any) -> SimpleNamespace:
    """Return a tree that compares only, and names columns as they come: inside, those of categories come first."""
    columns = np.concatenate([np.flatnonzero(model.is_categorical_), np.flatnonzero(~model.is_categorical_)])
    known = model._preprocessor.named_transformers_["encoder"].categories_
    nodes = tree.nodes.copy()
    more: list[Any] = []
    for place, node in enumerate(tree.nodes):
        if node["is_leaf"]:
            continue
        nodes[place]["feature_idx"] = columns[node["feature_idx"]]
        if not node["is_categorical"]:
            continue
        children = {True: node["left"], False: node["right"]}
        found = steps(
            _sides(tree.raw_left_cat_bitsets[node["bitset_idx"]], known[node["feature_idx"]], node),
            bool(node["missing_go_to_left"]),
        )
        ahead = [len(nodes) + len(more) + number for number in range(len(found) - 1)]  # places of all but the first
        made = [nodes[place], *(nodes[place].copy() for _ in ahead)]
        for one, step, other in zip(made, found, [*ahead, children[not found[-1].left]], strict=True):
            one["num_threshold"], one["missing_go_to_left"] = step.at_most, step.takes_missing
            one["left"], one["right"] = children[step.left], other
        more += made[1:]
    return SimpleNamespace(nodes=np.concatenate([nodes, np.array(more, nodes.dtype)]) if more else nodes)


def _sides(left: Any, known: Any, node: Any) -> list[bool]:
    """Return for -1, 0, 1 … whether it goes left; what is not known goes as what is missing."""
    values = known[~np.isnan(known)]
    if (values != np.floor(values)).any() or values.min() < 0:
        raise Unsupported("categories that are no whole numbers from 0 on cannot be published")
    sides = [bool(node["missing_go_to_left"])] * (int(values.max()) + 3)
    for code, value in enumerate(values.tolist()):
        sides[int(value) + 1] = bool(left[code // 32] >> np.uint32(code % 32) & np.uint32(1))
    return sides
