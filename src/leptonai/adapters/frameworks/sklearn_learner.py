"""A scikit-learn estimator that learns inside a Run: one fit on all rows, kept as a skops file."""

import contextlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from leptonai.adapters.frameworks import arrays, sklearn_fair, sklearn_metrics, skops_file
from leptonai.adapters.frameworks.sklearn import first_of, reads_texts
from leptonai.adapters.frameworks.threads import limited
from leptonai.core.errors import FieldError, Invalid, Unsupported
from leptonai.core.learning import Mitigate, Way

_FEW = 5000  # rows: threads of boosted trees would wait for each other longer than they compute


class SklearnLearner:
    """See `core.ports.Learner`. `incremental` is False: `step` is given all rows at once."""

    incremental = False
    input_dtype = "float32"
    entries = None

    def __init__(self, model: Any, metrics: Sequence[Any], mine: Sequence[Any]):
        self.model = model
        self.activation = "none"
        self.last_loss = float("nan")
        self._metrics, self._mine = list(metrics), list(mine)
        self._task, self._classes = "", 0
        self._weights: Any = None
        self._mitigate: tuple[Mitigate, Any, str] | None = None  # groups, and the name by which `fit` takes weights
        self._plain: Any = None  # what the same rows make without it
        self._found: dict[str, float] = {}
        self._seen: list[tuple[Any, Any]] = []
        # On the rows it learnt from, which may take longer than the fit; a forecast says nothing of them.
        self.measures_training = self.columns != "moments"
        _make_importable(self._mine)

    @property
    def layout(self) -> str:
        """How it takes rows: "text" where it makes numbers of texts by itself, else "flat", of images and of everything else."""
        return "text" if reads_texts(self.model) else "flat"

    @property
    def columns(self) -> str:
        """How it wants its columns; see `training.trainee.Traits`."""
        return str(getattr(first_of(self.model), "columns", "values"))

    @property
    def parameters(self) -> int:
        """How many coefficients a linear or neural model learnt; 0 for the others."""
        last = self.model.steps[-1][1] if hasattr(self.model, "steps") else self.model
        learnt = [getattr(last, name, None) for name in ("coef_", "intercept_", "coefs_", "intercepts_")]
        parts = [
            part for value in learnt if value is not None for part in (value if isinstance(value, list) else [value])
        ]
        return int(sum(np.size(part) for part in parts if not hasattr(part, "nnz")))

    @property
    def regresses(self) -> bool:
        """Whether it predicts values, so that whole numbers are amounts and not the names of classes."""
        from sklearn.base import is_regressor

        return bool(is_regressor(self.model))

    def learn_by(self, way: Way) -> None:
        """Say how to learn; before it begins. Raises `Unsupported` where the estimator weighs no rows."""
        if way.class_weights is not None:
            self._weights = np.array(way.class_weights)
            self._weighing("class_weights")
        if way.learning.mitigate is not None:
            sklearn_fair.check(self.model)
            self._mitigate = (way.learning.mitigate, way.groups, self._weighing("mitigate"))

    def _weighing(self, asked: str) -> str:
        """Return the name by which `fit` takes weights of rows: that of a pipeline's last step is longer."""
        from sklearn.utils.validation import has_fit_parameter

        last = self.model.steps[-1][1] if hasattr(self.model, "steps") else self.model
        if not has_fit_parameter(last, "sample_weight"):
            instead = "use balanced_sampling" if asked == "class_weights" else "take a model that does"
            raise Unsupported(
                f"{asked}: {type(last).__name__} weighs no rows: {instead}",
                errors=[FieldError(f"learning.{asked}", instead)],
            )
        return f"{self.model.steps[-1][0]}__sample_weight" if hasattr(self.model, "steps") else "sample_weight"

    def begin(self, x: Any, y: Any, task: str, classes: int, seed: int) -> None:
        """See the port. Estimators without a random state of their own draw from NumPy's, which is seeded here."""
        from sklearn.base import is_classifier, is_regressor

        arrays.seed_generators(seed)
        self._task, self._classes = task, classes
        name = type(self.model).__name__
        if task == "classification" and is_regressor(self.model):
            raise Invalid(
                f"{name} predicts numbers, and the target has {classes} classes: use a classifier, "
                "or import the target as a number with types={…}"
            )
        if task == "regression" and is_classifier(self.model):
            raise Invalid(
                f"{name} tells classes apart, and the target is a number: use a regressor, "
                'or import the target as a category with types={…: "category"}'
            )
        self.activation = "value" if task == "regression" else self._kind()
        if len(x) != len(y):
            raise Invalid(f"there are {len(x)} rows and {len(y)} targets")

    def _kind(self) -> str:
        if hasattr(self.model, "predict_proba"):
            return "none"
        if hasattr(self.model, "decision_function"):
            return "softmax" if self._classes > 2 else "sigmoid"
        return "none"

    def step(self, x: Any, y: Any) -> None:
        """Fit on all rows. What scikit-learn warns of, such as no convergence, is kept for `notes`."""
        fair = None
        with warnings.catch_warnings(record=True) as caught, _few_threads(len(x)):
            warnings.simplefilter("always")
            try:
                if self._mitigate is None:
                    more = {} if self._weights is None else {self._weighing("class_weights"): self._weights[y]}
                    self.model.fit(x, y, **more)
                else:
                    fair = sklearn_fair.mitigated(self.model, x, y, *self._mitigate)
                    self.model, self._plain = fair.model, fair.plain
            except (ValueError, TypeError) as error:
                short = " ".join(str(error).split())[:500]
                raise Invalid(
                    f"{type(self.model).__name__} cannot learn from {len(x)} rows{_wide(x)}: {short}",
                    errors=[FieldError("model", short)],
                ) from error
        self.notes = list(dict.fromkeys(" ".join(str(w.message).split())[:300] for w in caught))
        self.notes += [] if fair is None else [fair.words]
        self.activation = "value" if self._task == "regression" else self._kind()
        if self._task == "classification" and len(getattr(self.model, "classes_", ())) < self._classes:
            self.model.all_classes_ = self._classes  # the training part lacks some; it is kept with the weights
        if self.measures_training:
            self._seen.append((x, y))

    def measure(self, x: Any, y: Any) -> None:
        """See the port."""
        self._seen.append((x, y))

    def metrics(self) -> dict[str, float]:
        """See the port. The loss is the log loss where there are probabilities, or the mean squared error."""
        if not self._seen:
            return {}
        x, y = (np.concatenate(parts) for parts in zip(*self._seen, strict=True))
        self._seen = []
        found, raw = {}, None
        with _few_threads(len(x)):
            if self._task == "regression" or hasattr(self.model, "predict_proba"):
                raw = self.predict(x)
                found["loss"] = self.last_loss = sklearn_metrics.loss(self._task, y, raw)
            predicted = (
                raw.reshape(np.shape(y)) if raw is not None and self._task == "regression" else self.model.predict(x)
            )
        return found | sklearn_metrics.measured(self._metrics, self._task, y, predicted)

    def by_groups(self, x: Any, y: Any, groups: Any) -> dict[str, float]:
        """Return accuracy and the differences between groups of rows (int64, by number), and those of the model without `mitigate`."""
        before = sklearn_fair.figures(y, sklearn_fair.positive(self._plain, x), groups)
        after = sklearn_fair.figures(y, sklearn_fair.positive(self.model, x), groups)
        return {**after, **{f"plain_{name}": value for name, value in before.items()}}

    def predict(self, x: Any) -> Any:
        """See the port. Classes that the training part lacked have probability 0."""
        known = getattr(self.model, "classes_", None)
        if known is None:
            return np.asarray(self.model.predict(x), dtype=np.float32)
        if hasattr(self.model, "predict_proba"):
            return self._spread(np.asarray(self.model.predict_proba(x)), known)
        if hasattr(self.model, "decision_function"):
            scores = np.asarray(self.model.decision_function(x), dtype=np.float32)
            if scores.ndim == 1:
                return scores[:, None]
            if scores.shape[1] == len(known):
                return self._spread(scores, known, missing=-np.inf)
        index = np.searchsorted(known, self.model.predict(x))
        return self._spread(np.eye(len(known), dtype=np.float32)[index], known)

    def _spread(self, scores: Any, known: Any, missing: float = 0.0) -> Any:
        classes = getattr(self.model, "all_classes_", len(known))
        if classes == len(known):
            return scores.astype(np.float32)
        spread = np.full((len(scores), classes), missing, dtype=np.float32)
        spread[:, np.asarray(known, dtype=np.int64)] = scores
        return spread

    def state(self) -> dict[str, bytes]:
        """See the port."""
        return {"weights.skops": self.weights()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """See the port."""
        self.load_weights(state["weights.skops"])

    def weights(self) -> bytes:
        """Return the fitted estimator as a skops file: arrays and parameters, no code."""
        return skops_file.write(self.model)

    def load_weights(self, weights: bytes) -> None:
        """Take weights that `weights` gave."""
        self.model = skops_file.read(weights, self._mine)


def _wide(x: Any) -> str:
    return f" of {x.shape[1]} features" if x.ndim > 1 else ""


def _make_importable(mine: Sequence[Any]) -> None:
    """Let skops find the user's own classes by name: in a Run their modules exist only inside the packed code."""
    for made in mine:
        module = sys.modules.setdefault(made.__module__, ModuleType(made.__module__))
        if getattr(module, made.__name__, None) is None:
            setattr(module, made.__name__, made)


def _few_threads(rows: int) -> contextlib.AbstractContextManager[object]:
    """Have one thread compute while there is too little for several."""
    return contextlib.nullcontext() if rows >= _FEW else limited(1)
