"""An estimator of LightGBM that learns inside a Run, one tree (or one for each class) a step."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from leptonai.adapters.frameworks import arrays, lightgbm_rounds, sklearn_metrics
from leptonai.adapters.frameworks.sklearn_recipe import SklearnRecipe
from leptonai.core.errors import FieldError, Invalid
from leptonai.core.learning import Way
from leptonai.core.ports import Learner

_BAG = 25  # rounds after which one that draws begins its draws anew, so that it can go on from there


class LightgbmLearner:
    """See `core.ports.Learner`. `step` is given all rows, the same each time; each adds one round to the trees."""

    incremental = False
    layout = "flat"  # of images, and of everything else
    input_dtype = "float32"
    entries = None

    def __init__(self, model: Any, metrics: Sequence[Any]):
        self.model = model
        self.activation = "none"
        self.last_loss = 0.0
        self.measures_training = True
        self._metrics = list(metrics)
        self._weights: Any = None
        self._rate: float | None = None
        self._told: dict[str, Any] = {}
        self._task, self._classes, self._power = "", 0, False
        self._booster: Any = None
        self._text: str | None = None  # trees to go on from, where there is no booster yet
        self._read: Any = None  # a booster of them, which only predicts
        self._sums: list[tuple[Any, int, Any]] = []  # rows, the trees that were added up for them, their sums
        self._seen: list[tuple[Any, Any]] = []

    @property
    def rounds(self) -> int:
        """How many steps make a whole training."""
        return int(self.model.n_estimators)

    @property
    def regresses(self) -> bool:
        """Whether it predicts values, so that whole numbers are amounts and not the names of classes."""
        return isinstance(self.model, lightgbm.LGBMRegressor)

    @property
    def parameters(self) -> int:
        """How many leaves its trees have."""
        return sum(int(tree["num_leaves"]) for tree in self.trees.dump_model()["tree_info"])

    @property
    def may_save(self) -> bool:
        """Whether what goes on from here comes to the same trees."""
        if self._told.get("boosting") == "dart":  # which changes trees of earlier rounds by what it has drawn so far
            return False
        return not lightgbm_rounds.draws(self._told) or self._done % _BAG == 0

    def learn_by(self, way: Way) -> None:
        """Say how to learn; before it begins."""
        self._rate = way.learning.rate
        if way.class_weights is not None:
            self._weights = np.array(way.class_weights)

    def begin(self, x: Any, y: Any, task: str, classes: int, seed: int) -> None:
        """See the port."""
        arrays.seed_generators(seed)
        if (task == "regression") != self.regresses:
            has, needs = (
                ("a number", "LGBMRegressor") if task == "regression" else (f"{classes} classes", "LGBMClassifier")
            )
            raise Invalid(
                f"{type(self.model).__name__} does not suit a target of {has}: use {needs}, or import the target with "
                'types={…: "category"} or types={…: "number"}',
                errors=[FieldError("model", needs)],
            )
        if len(x) != len(y):
            raise Invalid(f"there are {len(x)} rows and {len(y)} targets")
        self._task, self._classes = task, classes
        self._told = lightgbm_rounds.parameters(self.model, task, classes, seed)
        if self._rate is not None:
            self._told["learning_rate"] = self._rate
        self._power = lightgbm_rounds.is_power(self._told["objective"])
        self.activation = "value" if task == "regression" else "sigmoid" if classes == 2 else "softmax"

    def step(self, x: Any, y: Any) -> None:
        """Add one round: of all rows, the same in each call."""
        if self._booster is not None and lightgbm_rounds.draws(self._told) and self._done % _BAG == 0:
            self._text, self._booster, self._read = self._booster.model_to_string(num_iteration=-1), None, None
        try:
            if self._booster is None:
                self._booster = self._begun(x, y)
            else:
                self._booster.update()
        except lightgbm.basic.LightGBMError as error:
            short = " ".join(str(error).split())[:500]
            raise Invalid(
                f"LightGBM cannot learn from these rows: {short}", errors=[FieldError("model", short)]
            ) from error
        if self.measures_training:
            self._seen = [(x, y)]

    def _begun(self, x: Any, y: Any) -> Any:
        before = None if self._text is None else lightgbm.Booster(model_str=self._text)
        told = lightgbm_rounds.drawn_from(self._told, 0 if before is None else before.current_iteration())
        named = told.pop("categorical_feature", "auto")
        rows = lightgbm.Dataset(
            x, label=y, weight=self._row_weights(y), categorical_feature=named, params=told, free_raw_data=False
        )
        self._text = None
        return lightgbm.train(told, rows, num_boost_round=1, init_model=before, keep_training_booster=True)

    def _row_weights(self, y: Any) -> Any:
        own = getattr(self.model, "class_weight", None)
        parts = [] if own is None else [compute_sample_weight(own, y)]
        parts += [] if self._weights is None else [self._weights[y]]
        return np.prod(parts, axis=0) if parts else None

    @property
    def trees(self) -> Any:
        """The booster, as it is now. Raises `Invalid` before it has learnt."""
        if self._booster is not None:
            return self._booster
        if self._text is None:
            raise Invalid("the model has not learnt yet")
        if self._read is None:
            self._read = lightgbm.Booster(model_str=self._text)
        return self._read

    @property
    def _done(self) -> int:
        return 0 if self._booster is None and self._text is None else int(self.trees.current_iteration())

    def _take(self, text: str) -> None:
        self._text, self._booster, self._read, self._sums = text, None, None, []

    def measure(self, x: Any, y: Any) -> None:
        """See the port."""
        self._seen.append((x, y))

    def metrics(self) -> dict[str, float]:
        """See the port. The loss is the log loss of classes, or the mean squared error."""
        found: dict[str, float] = {}
        if not self._seen:
            return found
        y = np.concatenate([part for _, part in self._seen])
        raw = np.concatenate([self._summed(x) for x, _ in self._seen])
        self._seen = []
        if self._task == "regression":
            predicted: Any = self._shaped(raw)[:, 0]
            scores = predicted
        else:
            sums = np.stack([np.zeros_like(raw), raw], axis=1) if raw.ndim == 1 else raw
            scores = np.exp(sums - sums.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
            predicted = scores.argmax(axis=1)
        found["loss"] = self.last_loss = sklearn_metrics.loss(self._task, y, scores)
        return found | sklearn_metrics.measured(self._metrics, self._task, y, predicted)

    def _summed(self, x: Any) -> Any:
        """Return what the trees add up to; for rows that are measured each round only the last tree is computed."""
        trees, done = self.trees, self._done
        if self._told.get("boosting") == "dart":
            return trees.predict(x, raw_score=True)
        for at, (rows, counted, sums) in enumerate(self._sums):
            if rows.shape == x.shape and rows.ctypes.data == x.ctypes.data and counted <= done:
                if counted < done:
                    more = trees.predict(x, start_iteration=counted, num_iteration=done - counted, raw_score=True)
                    self._sums[at] = (rows, done, sums + more)
                return self._sums[at][2]
        self._sums = [*self._sums[-7:], (x, done, trees.predict(x, raw_score=True))]
        return self._sums[-1][2]

    def predict(self, x: Any) -> Any:
        """See the port: sums of the trees (rows, 1) or (rows, classes), or values (rows, 1)."""
        return self._shaped(self.trees.predict(x, raw_score=True))

    def _shaped(self, raw: Any) -> Any:
        values = np.asarray(raw, dtype=np.float32 if not self._power else np.float64)
        if self._power:
            values = np.exp(values)
        return (values[:, None] if values.ndim == 1 else values).astype(np.float32)

    def mark(self) -> bytes:
        """Return what `go_back` needs to come back to the trees of now."""
        return json.dumps(self._done).encode()

    def go_back(self, mark: bytes) -> None:
        """Leave out the rounds after a mark."""
        self._take(self.trees.model_to_string(num_iteration=json.loads(mark)))

    def state(self) -> dict[str, bytes]:
        """See the port."""
        return {"trees.txt": self.trees.model_to_string(num_iteration=-1).encode()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """See the port."""
        self._take(state["trees.txt"].decode())

    def weights(self) -> bytes:
        """Return the trees as text, below a line that says whose they are."""
        facts = {
            "class": type(self.model).__name__,
            "classes": self._classes,
            "features": self.trees.num_feature(),
            "power": self._power,
        }
        return lightgbm_rounds.dump(self.trees.model_to_string(num_iteration=-1), facts)

    def load_weights(self, weights: bytes) -> None:
        """Take weights that `weights` gave."""
        text, facts = lightgbm_rounds.parse(weights)
        self._take(text)
        self._classes, self._power = int(facts["classes"]), bool(facts["power"])

    @property
    def is_power(self) -> bool:
        """Whether values are e to the power of what the trees add up to."""
        return self._power


class LightgbmRecipe(SklearnRecipe):
    """See `core.ports.Recipe`."""

    def learner(self, settings: Mapping[str, Any]) -> Learner:
        """See the port."""
        return LightgbmLearner(self._made(settings), self._parts["metrics"])
