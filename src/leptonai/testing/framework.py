"""What every `Framework` must do. Subclass `FrameworkContract` and give it models of yours for a small problem."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from leptonai.core.errors import Invalid
from leptonai.core.learning import Learning, Way
from leptonai.core.ports import Framework, Learner

ROWS, FEATURES, CLASSES = 96, 6, 3
# `accumulate` is such that a state is taken while gradients wait.
EVERYTHING: dict[str, Any] = {
    "learning_rate": 0.01,
    "schedule": "cosine",
    "clip_norm": 0.5,
    "accumulate": 3,
    "weight_decay": 0.1,
    "label_smoothing": 0.1,
    "ema": 0.9,
    "class_weights": "balanced",
    "adversarial": "pgd:steps=2",
    "precision": "bf16",
}


def problem(task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a small problem that can be learnt: float32 (96, 6), and classes 0-2 or float32 values."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    score = x[:, 0] - 0.5 * x[:, 1]
    if task == "regression":
        return x, score.astype(np.float32)
    return x, np.digitize(score, [-0.5, 0.5]).astype(np.int64)


class FrameworkContract:
    """The promise of `core.ports.Framework` and `core.ports.Learner`, as tests."""

    framework: Framework
    strangers: tuple[object, ...] = (object(), 3, "model", None, dict, ROWS)

    def model(self, task: str) -> tuple[Any, Mapping[str, Any]]:
        """Give a fresh model for `problem(task)`, and what `compile` would be given for it."""
        raise NotImplementedError

    def misfit(self) -> tuple[Any, Mapping[str, Any]] | None:
        """Give a model for four features; None where a model takes as many as come."""
        return None

    def answers(self, model: Any, x: np.ndarray) -> np.ndarray:
        """Return what the user's own object predicts: comparable with `Learner.predict`."""
        raise NotImplementedError

    def way(self, task: str) -> Way:
        """Return a way to learn that asks for all that the framework says it can do."""
        can: frozenset[str] = getattr(self.framework, "learns", frozenset())
        asked = {name: value for name, value in EVERYTHING.items() if name in can}
        if task == "regression":
            asked = {name: value for name, value in asked.items() if name not in ("label_smoothing", "class_weights")}
        return Way(Learning.model_validate(asked), (0.5, 2.0, 1.0) if "class_weights" in asked else None)

    def learner(
        self, task: str, begun: bool = True, seed: int = 3, way: Way | None = None
    ) -> tuple[Any, bytes, Learner]:
        model, compiled = self.model(task)
        packed = self.framework.pack(model, compiled)
        learner: Any = self.framework.load(packed.code)
        if begun:
            x, y = problem(task)
            if way is not None:
                learner.learn_by(way)
            learner.begin(x[:16], y[:16], task, CLASSES if task == "classification" else 0, seed)
        return model, packed.code, learner

    def learn(self, learner: Learner, task: str, epochs: int = 1, start: int = 0) -> dict[str, float]:
        x, y = problem(task)
        found: dict[str, float] = {}
        if not getattr(learner, "incremental", True):
            learner.step(x, y)
            return learner.metrics()
        for _ in range(epochs):
            for at in range(start, ROWS, 16):
                learner.step(x[at : at + 16], y[at : at + 16])
            found = learner.metrics()
        return found

    def test_owns_its_models_only(self) -> None:
        model, _ = self.model("regression")
        assert self.framework.owns(model)
        assert not any(self.framework.owns(stranger) for stranger in self.strangers)

    @pytest.mark.parametrize("task", ["classification", "regression"])
    def test_learns_and_predicts(self, task: str) -> None:
        _, _, learner = self.learner(task)
        x, _ = problem(task)
        first = self.learn(learner, task)
        last = self.learn(learner, task, epochs=20)
        assert last["loss"] <= first["loss"]
        assert all(isinstance(value, float) for value in last.values())
        raw = learner.predict(x)
        assert isinstance(raw, np.ndarray)
        assert len(raw) == ROWS
        assert np.isfinite(raw).all()
        assert learner.activation in ("softmax", "sigmoid", "none", "value")
        assert (learner.activation == "value") == (task == "regression")

    @pytest.mark.parametrize("task", ["classification", "regression"])
    def test_measuring_changes_nothing(self, task: str) -> None:
        _, _, learner = self.learner(task)
        x, y = problem(task)
        self.learn(learner, task)
        before, raw = learner.weights(), learner.predict(x)
        learner.measure(x, y)
        assert set(learner.metrics()) >= {"loss"}
        assert learner.weights() == before
        assert np.array_equal(learner.predict(x), raw)

    def test_the_same_seed_gives_the_same_weights(self) -> None:
        packed = self.learner("classification", begun=False)[1]
        found = []
        for _ in range(2):
            x, y = problem("classification")
            learner = self.framework.load(packed)
            learner.begin(x[:16], y[:16], "classification", CLASSES, 5)
            self.learn(learner, "classification", epochs=2)
            found.append(learner.predict(x))
        assert np.array_equal(*found)

    @pytest.mark.parametrize("task", ["classification", "regression"])
    @pytest.mark.parametrize("asked", ["plainly", "with everything"])
    def test_goes_on_from_a_state_as_if_nothing_had_happened(self, task: str, asked: str) -> None:
        way = self.way(task) if asked == "with everything" else None
        if way is not None and not way.learning.asked:
            pytest.skip("it learns in one way only")
        _, code, learner = self.learner(task, way=way)
        self.learn(learner, task, start=48)
        if way is not None and "schedule" in way.learning.asked:
            trained: Any = learner
            trained.rate(0.25)
        x, y = problem(task)
        again: Any = self.framework.load(code)
        if not getattr(learner, "incremental", True):
            again.restore(learner.state())
            assert np.array_equal(again.predict(x), learner.predict(x))
            return
        learner.step(x[:16], y[:16])
        state = learner.state()
        for at in (16, 32, 48, 64):  # more than one step of the optimiser, where gradients are added up
            learner.step(x[at : at + 16], y[at : at + 16])
        wanted = (learner.metrics(), learner.weights())
        if way is not None:
            again.learn_by(way)
        again.begin(x[:16], y[:16], task, CLASSES if task == "classification" else 0, 99)
        again.step(x[48:64], y[48:64])  # which `restore` must make undone
        again.restore(state)
        assert again.state().keys() == state.keys()
        for at in (16, 32, 48, 64):
            again.step(x[at : at + 16], y[at : at + 16])
        assert again.metrics() == wanted[0]
        assert again.weights() == wanted[1]

    @pytest.mark.parametrize("task", ["classification", "regression"])
    def test_weights_make_the_same_model_elsewhere(self, task: str) -> None:
        model, code, learner = self.learner(task)
        self.learn(learner, task)
        x, _ = problem(task)
        wanted = learner.predict(x)
        weights = learner.weights()
        assert np.array_equal(self.framework.load(code, weights).predict(x), wanted)
        self.framework.absorb(model, weights)
        assert np.allclose(self.answers(model, x), wanted, atol=1e-6)

    def test_weights_carry_no_pickle(self) -> None:
        _, _, learner = self.learner("classification")
        self.learn(learner, "classification")
        for data in (learner.weights(), *learner.state().values()):
            assert not data.startswith(b"\x80")
            assert b"\x80\x04\x95" not in data

    def test_says_what_the_model_takes_and_what_it_is_given(self) -> None:
        found = self.misfit()
        if found is None:
            return
        learner = self.framework.load(self.framework.pack(*found).code)
        x, y = problem("classification")
        with pytest.raises(Invalid, match=r"\b4\b.*\b6\b|\b6\b.*\b4\b"):
            learner.begin(x[:16], y[:16], "classification", CLASSES, 0)

    @pytest.mark.parametrize(("option", "value"), [("metrics", ["acuracy"]), ("optimizer", "adamm"), ("loss", "msee")])
    def test_an_unknown_name_is_said_with_what_there_is(self, option: str, value: object) -> None:
        model, compiled = self.model("classification")
        with pytest.raises(Invalid) as caught:
            self.framework.pack(model, {**compiled, option: value})
        assert option.removesuffix("s") in caught.value.message
