"""Intervals are SciPy's on the same draws, and hold the truth as often as they say."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from leptonai.evaluation import intervals, measuring
from leptonai.evaluation.spec import Evaluate

Array = np.ndarray[Any, Any]


def classes(rows: int, seed: int, count: int = 2) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, count, rows)
    scores = random.dirichlet(np.ones(count), rows)
    scores[np.arange(rows), truth] += 0.3
    scores = np.round(scores / scores.sum(1, keepdims=True), 2)  # with ties
    return truth, scores / scores.sum(1, keepdims=True)


def made(truth: Array, scores: Array, task: str = "classification", **asked: Any) -> Any:
    names = tuple(range(scores.shape[1])) if task == "classification" else ()
    answers = measuring.Answers(task, names, "y", truth, scores)
    return measuring.report(Evaluate(run="r", data="d", **asked), answers)[0]


def scipys(arrays: tuple[Array, ...], statistic: Any, seed: int) -> tuple[float, float]:
    found = stats.bootstrap(
        arrays, statistic, paired=True, vectorized=False, n_resamples=60, method="percentile", rng=np.random.default_rng(seed),
        confidence_level=0.9,
    )  # fmt: skip
    return tuple(found.confidence_interval)  # type: ignore[return-value]


@pytest.mark.parametrize("seed", [0])
def test_intervals_of_a_classifier_are_those_of_scipy(seed: int) -> None:
    truth, scores = classes(180, seed)
    found = made(truth, scores, resamples=60, confidence=0.9, seed=seed).intervals
    predicted, second = scores.argmax(1), scores[:, 1]
    wanted: dict[str, Any] = {
        "accuracy": (predicted, sk.accuracy_score),
        "f1": (predicted, lambda y, p: sk.f1_score(y, p, average="macro", zero_division=0)),
        "precision": (predicted, lambda y, p: sk.precision_score(y, p, average="macro", zero_division=0)),
        "recall": (predicted, lambda y, p: sk.recall_score(y, p, average="macro", zero_division=0)),
        "roc_auc": (second, sk.roc_auc_score),
        "average_precision": (second, sk.average_precision_score),
        "brier": (second, sk.brier_score_loss),
        "log_loss": (second, lambda y, p: sk.log_loss(y, np.clip(p, np.finfo("f4").eps, 1 - np.finfo("f4").eps))),
    }
    for name, (given, score) in wanted.items():
        assert found[name] == pytest.approx(scipys((truth, given), score, seed), abs=1e-6), name


def test_intervals_of_many_classes_and_of_values_are_those_of_scipy() -> None:
    truth, scores = classes(150, 3, 3)
    found = made(truth, scores, resamples=60, confidence=0.9, seed=5).intervals
    row = np.arange(len(truth))
    areas = lambda y, r: sk.roc_auc_score(y, scores[r], multi_class="ovr", average="macro")  # noqa: E731
    assert found["roc_auc"] == pytest.approx(scipys((truth, row), areas, 5), abs=1e-6)
    random = np.random.default_rng(0)
    y = random.normal(1e3, 5, 160)
    p = y + random.standard_t(3, 160)
    found = made(y, p, "regression", resamples=60, confidence=0.9, seed=7).intervals
    for name, score in (("mae", sk.mean_absolute_error), ("rmse", sk.root_mean_squared_error), ("r2", sk.r2_score)):
        assert found[name] == pytest.approx(scipys((y, p), score, 7), abs=1e-6), name


def test_the_bag_of_little_bootstraps_is_as_wide_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, scores = classes(20_000, 0)
    whole = made(truth, scores, resamples=400).intervals
    monkeypatch.setattr(intervals, "WHOLE", 1000)
    bags = made(truth, scores, resamples=800)
    assert set(bags.intervals) == set(whole)
    for name, (low, high) in bags.intervals.items():
        assert low < bags.metrics[name] < high
        assert high - low == pytest.approx(whole[name][1] - whole[name][0], rel=0.2), name


def test_a_half_of_intervals_of_a_half_hold_the_truth() -> None:
    held = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        right = random.random(80) < 0.8
        truth = np.zeros(80, int)
        truth[40:] = 1
        scores = np.eye(2)[np.where(right, truth, 1 - truth)]
        low, high = made(truth, scores, resamples=60, confidence=0.51, seed=seed).intervals["accuracy"]
        held += low <= 0.8 <= high
    assert 19 <= held <= 45  # 31 are expected; accuracies come in steps of an eightieth


def test_what_has_no_interval_is_noted() -> None:
    truth = np.array([0] * 59 + [1])
    scores = np.full((60, 2), 0.5)
    found = made(truth, scores)
    assert "roc_auc" not in found.intervals
    assert any("no interval is given for roc_auc" in note for note in found.notes)
    assert made(truth, scores, resamples=0).intervals == {}
