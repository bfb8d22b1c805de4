"""scikit-learn, behind the port `Framework`."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from leptonai.adapters.frameworks import packing
from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.ports import Learner, Packed, Recipe, Route


class SklearnFramework:
    """Estimators and pipelines of scikit-learn, and those that follow its conventions."""

    name = "sklearn"
    learns = frozenset({"class_weights", "balanced_sampling", "mitigate"})
    apart = (("class_weights", "mitigate"), ("balanced_sampling", "mitigate"))  # which weighs rows by itself

    def owns(self, model: object) -> bool:
        """Whether it is an estimator: a ``sklearn.base.BaseEstimator``."""
        base = sys.modules.get("sklearn.base")
        return base is not None and isinstance(model, base.BaseEstimator)

    def estimator(self, name: str, settings: Mapping[str, Any]) -> Any:
        """Make what scikit-learn has none of, and is ours, by the name of its class."""
        from leptonai.adapters.frameworks.ratings import Ratings
        from leptonai.adapters.frameworks.series import Lagged, Naive, Smoothing
        from leptonai.adapters.frameworks.series_grid import Grid

        ours: tuple[type, ...] = (Ratings, Naive, Smoothing, Lagged, Grid)
        return next(one for one in ours if one.__name__ == name)(**settings)

    def pack(self, model: Any, compiled: Mapping[str, Any]) -> Packed:
        """See the port. The estimator travels unfitted; metrics can be named, the optimiser and the loss are its own."""
        from sklearn.base import clone, is_classifier, is_regressor

        from leptonai.adapters.frameworks import sklearn_metrics

        for name in ("optimizer", "loss"):
            if compiled.get(name) is not None:
                raise Unsupported(
                    f"{type(model).__name__} brings its own {name}: leave {name}= out of compile, and set its parameters",
                    errors=[FieldError(name, "not for scikit-learn")],
                )
        # Some, such as a stack of others, have `predict` only once they are fitted.
        if not (is_classifier(model) or is_regressor(model) or hasattr(model, "predict")):
            raise Invalid(
                f"{type(model).__name__} cannot predict: give a classifier, a regressor, or a pipeline that ends in one"
            )
        metrics = list(compiled.get("metrics") or ())
        sklearn_metrics.check(metrics)
        parts = {"estimator": clone(model, safe=False), "metrics": metrics, "mine": mine(model)}
        facts = {"class": f"{type(model).__module__}.{type(model).__qualname__}", "parameters": 0}
        facts |= {"texts": True} if reads_texts(model) else {}
        return Packed(packing.by_value(parts, "the estimator"), "sklearn", facts)

    def load(self, code: bytes, weights: bytes | None = None) -> Learner:
        """See the port."""
        from leptonai.adapters.frameworks.sklearn_learner import SklearnLearner

        parts = packing.unpack(code)
        learner = SklearnLearner(parts["estimator"], parts["metrics"], parts["mine"])
        if weights is not None:
            learner.load_weights(weights)
        return learner

    def recipe(self, code: bytes) -> Recipe:
        """See `core.ports.Recipe`."""
        from leptonai.adapters.frameworks.sklearn_recipe import SklearnRecipe

        return SklearnRecipe(code)

    def absorb(self, model: Any, weights: bytes) -> None:
        """See the port. The estimator becomes the fitted one; its parameters stay what they were."""
        from leptonai.adapters.frameworks import skops_file

        fitted = skops_file.read(weights, mine(model))
        if type(fitted) is not type(model):
            raise Invalid(
                f"the trained weights are those of a {type(fitted).__name__}, not of a {type(model).__name__}"
            )
        vars(model).update(vars(fitted))

    def export(self, learner: Learner, example: Any) -> Iterator[Route]:
        """See the port."""
        from leptonai.adapters.frameworks.sklearn_onnx import routes

        if reads_texts(getattr(learner, "model", None)):
            raise Unsupported("texts are cut into words by rules of scikit-learn that ONNX has no operator for")
        if getattr(learner, "columns", "values") == "moments":
            raise Unsupported("a time is found on the calendar of its series, which ONNX has no operator for")
        return routes(learner, example)


def first_of(model: Any) -> Any:
    """Return what takes the rows: an estimator itself, or the first of its steps or of its members."""
    steps, members = getattr(model, "steps", None), getattr(model, "estimators", None)
    if steps:
        return first_of(steps[0][1])
    if isinstance(members, list) and members and isinstance(members[0], tuple):  # a vote
        return first_of(members[0][1])
    return model


def reads_texts(given: Any) -> bool:
    """Whether an estimator makes numbers of texts."""
    model = first_of(given)
    return type(model).__module__ == "sklearn.feature_extraction.text" and hasattr(model, "analyzer")


def mine(model: Any) -> list[Any]:
    """Return the classes and functions of the user's own that an estimator, its steps and parameters are made of."""
    found: dict[int, Any] = {}
    for part in (model, *model.get_params(deep=True).values()):
        made = part if isinstance(part, type) or hasattr(part, "__code__") else type(part)
        if packing.is_users(str(getattr(made, "__module__", ""))):
            found[id(made)] = made
    return list(found.values())
