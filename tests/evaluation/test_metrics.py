"""Metrics are scikit-learn's, and say so when they cannot be given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from leptonai.core.errors import Invalid, Unsupported
from leptonai.evaluation import metrics


def test_a_binary_classifier() -> None:
    truth = np.array([0, 0, 1, 1])
    second = np.array([0.1, 0.6, 0.35, 0.8])
    report = metrics.classification(truth, np.stack([1 - second, second], 1).astype("float32"), ("no", "yes"))
    assert report.metrics["accuracy"] == 0.5
    assert report.metrics["roc_auc"] == sk.roc_auc_score(truth, second)
    assert report.metrics["log_loss"] == pytest.approx(sk.log_loss(truth, second), rel=1e-6)
    assert report.confusion == ((1, 1), (1, 1))
    assert report.per_class["yes"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "rows": 2.0}
    assert (report.classes, report.rows, report.notes) == (("no", "yes"), 4, ())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(20, 60), st.integers(0, 2**31))
def test_many_classes_are_measured_as_scikit_learn_does(classes: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, rows)])
    scores = rng.dirichlet(np.ones(classes), len(truth))
    report = metrics.classification(truth, scores, tuple(range(classes)))
    predicted = scores.argmax(1)
    assert report.metrics["accuracy"] == sk.accuracy_score(truth, predicted)
    assert report.metrics["f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro", zero_division=0))
    assert report.metrics["log_loss"] == pytest.approx(sk.log_loss(truth, scores), rel=1e-5)
    wanted = sk.roc_auc_score(truth, scores[:, 1] if classes == 2 else scores, multi_class="ovr", average="macro")
    assert report.metrics["roc_auc"] == pytest.approx(wanted)
    assert np.array_equal(report.confusion, sk.confusion_matrix(truth, predicted, labels=range(classes)))


def test_a_class_without_rows_is_noted() -> None:
    scores = np.full((4, 3), 1 / 3)
    report = metrics.classification(np.array([0, 1, 0, 1]), scores, ("a", "b", "c"))
    assert "roc_auc" in report.metrics
    assert any("no row is of class c" in note for note in report.notes)
    report = metrics.classification(np.array([1, 1]), scores[:2], ("a", "b", "c"))
    assert "roc_auc" not in report.metrics
    assert any("all rows are of class 'b'" in note for note in report.notes)


def test_scores_that_are_no_probabilities_are_noted() -> None:
    truth = np.array([0, 1])
    report = metrics.classification(truth, np.array([[2.0, -1.0], [-3.0, 4.0]]), ("a", "b"))
    assert report.metrics["accuracy"] == 1.0
    assert "log_loss" not in report.metrics
    assert "not probabilities" in report.notes[0]
    report = metrics.classification(truth, np.array([[2.0, 2.0], [1.0, 3.0]]), ("a", "b"))
    assert report.metrics["log_loss"] == pytest.approx(-np.log([0.5, 0.75]).mean())
    assert "do not add up to 1" in report.notes[0]


def test_what_is_not_finite_is_not_measured() -> None:
    with pytest.raises(Invalid, match="not finite for 1 row"):
        metrics.classification(np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 1]]), ("a", "b"))
    with pytest.raises(Invalid, match="not finite for 2 rows"):
        metrics.regression(np.array([0.0, 1.0]), np.array([np.inf, np.nan]))


def test_a_regressor() -> None:
    truth, values = np.array([1.0, 2.0, 4.0]), np.array([[1.0], [3.0], [4.0]], dtype="float32")
    report = metrics.regression(truth, values)
    assert report.metrics == {
        "mae": pytest.approx(1 / 3), "rmse": pytest.approx((1 / 3) ** 0.5), "r2": pytest.approx(sk.r2_score(truth, values))
    }  # fmt: skip
    assert report.notes == ()
    constant = metrics.regression(np.ones(3), np.ones(3))
    assert "r2" not in constant.metrics
    assert "the same" in constant.notes[0]


def test_several_values_for_one_target_are_each_compared() -> None:
    truth = np.array([1.0, 2.0])
    report = metrics.regression(truth, np.array([[[1.0], [3.0]], [[2.0], [2.0]]]))
    assert report.metrics["mae"] == 0.5
    assert (report.rows, "2 values a row" in report.notes[0]) == (2, True)
    several = metrics.regression(np.ones((2, 3)) * [[1], [2]], np.ones((2, 3)) * [[1], [3]])
    assert several.metrics["mae"] == 0.5
    with pytest.raises(Unsupported, match=r"\(4,\).*\(3,\)"):
        metrics.regression(np.ones((2, 3)), np.ones((2, 4)))
