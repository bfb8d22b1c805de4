"""LightGBM's estimators, behind the port `Framework`: they learn round by round, and go on after a kill."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from leptonai.adapters.frameworks import packing
from leptonai.core.errors import FieldError, Unsupported
from leptonai.core.ports import Learner, Packed, Recipe, Route


class LightgbmFramework:
    """``LGBMClassifier`` and ``LGBMRegressor``; within a pipeline of scikit-learn they are one of its steps."""

    name = "lightgbm"
    learns = frozenset({"class_weights", "balanced_sampling", "learning_rate"})

    def owns(self, model: object) -> bool:
        """Whether it is one of LightGBM's two estimators."""
        lightgbm = sys.modules.get("lightgbm")
        if lightgbm is None or not hasattr(lightgbm, "LGBMModel"):
            return False
        return isinstance(model, (lightgbm.LGBMClassifier, lightgbm.LGBMRegressor))

    def estimator(self, task: str, settings: Mapping[str, Any]) -> Any:
        """Make an estimator for a task, where nobody gave one."""
        import lightgbm

        return (lightgbm.LGBMClassifier if task == "classification" else lightgbm.LGBMRegressor)(**settings)

    def pack(self, model: Any, compiled: Mapping[str, Any]) -> Packed:
        """See the port. The estimator travels unfitted; its objective is its loss, metrics can be named."""
        from sklearn.base import clone

        from leptonai.adapters.frameworks import lightgbm_rounds, sklearn_metrics
        from leptonai.adapters.frameworks.sklearn import mine

        for name in ("optimizer", "loss"):
            if compiled.get(name) is not None:
                raise Unsupported(
                    f"{type(model).__name__} brings its own {name}: leave {name}= out of compile, and set its objective",
                    errors=[FieldError(name, "not for LightGBM")],
                )
        lightgbm_rounds.check(model)
        metrics = list(compiled.get("metrics") or ())
        sklearn_metrics.check(metrics)
        parts = {"estimator": clone(model), "metrics": metrics, "mine": mine(model)}
        facts = {"class": f"{type(model).__module__}.{type(model).__qualname__}", "parameters": 0}
        return Packed(packing.by_value(parts, "the estimator"), "sklearn", facts)

    def load(self, code: bytes, weights: bytes | None = None) -> Learner:
        """See the port."""
        from leptonai.adapters.frameworks.lightgbm_learner import LightgbmLearner

        parts = packing.unpack(code)
        learner = LightgbmLearner(parts["estimator"], parts["metrics"])
        if weights is not None:
            learner.load_weights(weights)
        return learner

    def recipe(self, code: bytes) -> Recipe:
        """See `core.ports.Recipe`."""
        from leptonai.adapters.frameworks.lightgbm_learner import LightgbmRecipe

        return LightgbmRecipe(code)

    def absorb(self, model: Any, weights: bytes) -> None:
        """See the port. The estimator becomes a fitted one; its parameters stay what they were."""
        from leptonai.adapters.frameworks import lightgbm_rounds

        lightgbm_rounds.absorb(model, weights)

    def export(self, learner: Learner, example: Any) -> Iterator[Route]:
        """See the port."""
        from leptonai.adapters.frameworks.lightgbm_onnx import routes

        return routes(learner, example)
