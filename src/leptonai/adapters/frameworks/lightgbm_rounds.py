"""What LightGBM's estimators ask for, in the words of its boosters; and how its trees are kept.

Trees are kept as LightGBM's own text, which holds no code, below a line of JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np

from leptonai.core.errors import FieldError, Invalid, Unsupported

_NOT_TOLD = ("n_estimators", "class_weight", "importance_type", "boosting_type", "objective")
# Objectives whose values are e to the power of the sum of the trees.
_POWERS = frozenset({"poisson", "gamma", "tweedie"})
_VALUES = frozenset({"regression", "l2", "mse", "l1", "mae", "huber", "fair", "quantile", "mape"}) | _POWERS
_CLASSES = frozenset({"binary", "multiclass", "softmax"})


def check(estimator: Any) -> None:
    """Raise `Unsupported` for a way of boosting that cannot go on, or be published."""
    told = estimator.get_params()
    objective = told.get("objective")
    known = _CLASSES if isinstance(estimator, lightgbm.LGBMClassifier) else _VALUES
    if objective is not None and objective not in known:
        shown = ", ".join(sorted(known))
        raise Unsupported(
            f"objective: {objective!r} cannot be published: use one of {shown}",
            errors=[FieldError("objective", f"one of {shown}")],
        )
    if told.get("boosting_type") not in (None, "gbdt", "dart"):
        raise Unsupported(
            f"boosting_type: {told['boosting_type']!r} makes no sum of trees: use gbdt or dart, or a forest of scikit-learn",
            errors=[FieldError("boosting_type", "gbdt or dart")],
        )
    for name in ("linear_tree", "reg_sqrt"):
        if told.get(name):
            raise Unsupported(
                f"{name}: leaves that compute cannot be published: leave it out", errors=[FieldError(name, "left out")]
            )


def parameters(estimator: Any, task: str, classes: int, seed: int) -> dict[str, Any]:
    """Return the parameters of a booster. The same rows then give the same trees, to the last bit."""
    told = {
        name: value for name, value in estimator.get_params().items() if value is not None and name not in _NOT_TOLD
    }
    given = estimator.get_params()
    usual = "regression" if task == "regression" else "binary" if classes == 2 else "multiclass"
    objective = given.get("objective") or usual
    if task == "classification" and (objective == "binary") != (classes == 2):
        raise Invalid(
            f"objective: {objective} is not for {classes} classes: leave it out",
            errors=[FieldError("objective", usual)],
        )
    told |= {"objective": objective, "boosting": given.get("boosting_type") or "gbdt"}
    if task == "classification" and classes > 2:
        told["num_class"] = classes
    told.setdefault("random_state", seed)
    return {"verbose": -1, "deterministic": True, "force_row_wise": not told.get("force_col_wise"), **told}


def draws(parameters: Mapping[str, Any]) -> bool:
    """Whether rows, columns or thresholds are drawn by chance: what is drawn depends on all draws before."""
    shares = ("subsample", "bagging_fraction", "colsample_bytree", "feature_fraction", "feature_fraction_bynode")
    some = min(float(parameters.get(name, 1.0)) for name in shares) < 1
    goss = "goss" in (parameters.get("data_sample_strategy"), parameters.get("boosting"))
    return some or goss or bool(parameters.get("extra_trees"))


def drawn_from(parameters: Mapping[str, Any], round: int) -> dict[str, Any]:
    """Return the parameters for draws that begin anew at a round, other than those of the rounds before."""
    seeds = ("bagging_seed", "feature_fraction_seed", "extra_seed")
    seed = int(parameters["random_state"]) + round
    return {**parameters, **dict.fromkeys(seeds, seed)} if draws(parameters) else dict(parameters)


def is_power(objective: str) -> bool:
    """Whether values are e to the power of what the trees add up to."""
    return objective in _POWERS


def dump(text: str, facts: Mapping[str, Any]) -> bytes:
    """Return trees and what is to be known of them, as bytes."""
    return json.dumps(dict(facts)).encode() + b"\n" + text.encode()


def parse(weights: bytes) -> tuple[str, dict[str, Any]]:
    """Return what `dump` was given."""
    facts, _, text = weights.partition(b"\n")
    return text.decode(), dict(json.loads(facts))


def absorb(estimator: Any, weights: bytes) -> None:
    """Make the estimator one that was fitted to these trees; classes are numbers from 0, as in the Run."""
    text, facts = parse(weights)
    kind = type(estimator)
    if facts["class"] != kind.__name__:
        raise Invalid(f"the trained weights are those of a {facts['class']}, not of a {kind.__name__}")
    few = max(2, int(facts["classes"]))
    made = kind(n_estimators=1, verbose=-1)  # a fit of nothing sets what only a fit sets
    made.fit(np.zeros((few, int(facts["features"])), np.float32), np.arange(few))
    made._Booster = lightgbm.Booster(model_str=text)
    fitted = {name: value for name, value in vars(made).items() if name not in estimator.get_params()}
    vars(estimator).update(fitted)
