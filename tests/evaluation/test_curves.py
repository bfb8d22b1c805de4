"""Curves are scikit-learn's; a threshold costs least; what cannot be told is one sentence."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from leptonai.core.errors import Invalid
from leptonai.evaluation import curves, measuring
from leptonai.evaluation.spec import Details, Evaluate, Report

Array = np.ndarray[Any, Any]
seeds = st.integers(0, 2**31)


def made(
    truth: Array, scores: Array, names: tuple[Any, ...] = ("no", "yes"), task: str = "classification", **asked: Any
) -> tuple[Report, Details]:
    answers = measuring.Answers(task, names, "y", truth, scores)
    return measuring.report(Evaluate(run="r", data="d", **{"resamples": 0, **asked}), answers)


def two(rows: int, seed: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    truth = np.concatenate([[0, 1], random.integers(0, 2, rows - 2)])
    second = np.round(np.clip(0.6 * random.random(rows) + 0.3 * truth, 0, 1), 2)
    return truth, np.stack([1 - second, second], 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 500), seeds)
def test_calibration_is_that_of_scikit_learn(rows: int, seed: int) -> None:
    truth, scores = two(rows, seed)
    found = made(truth, scores)[1].curves["calibration"]
    share, said = calibration_curve(truth, scores[:, 1], n_bins=10)
    assert found["share"] == pytest.approx(share, abs=1e-6)
    assert found["score"] == pytest.approx(said, abs=1e-6)
    place = np.digitize(scores[:, 1], np.linspace(0, 1, 11)[1:-1], right=True)
    ece = sum(
        abs(truth[place == at].mean() - scores[place == at, 1].mean()) * (place == at).mean() for at in np.unique(place)
    )
    assert found["ece"] == pytest.approx(ece, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 150), seeds)
def test_roc_and_precision_recall_are_those_of_scikit_learn(rows: int, seed: int) -> None:
    truth, scores = two(rows, seed)
    report, details = made(truth, scores)
    fpr, tpr, _ = sk.roc_curve(truth, scores[:, 1], drop_intermediate=False)
    found = details.curves["roc"]["yes"]
    assert (found["x"], found["y"]) == (pytest.approx(fpr, abs=1e-5), pytest.approx(tpr, abs=1e-5))
    precision, recall, _ = sk.precision_recall_curve(truth, scores[:, 1])
    found = details.curves["precision_recall"]["yes"]
    assert found["y"] == pytest.approx(precision[:-1][::-1], abs=1e-5)
    assert found["x"] == pytest.approx(recall[:-1][::-1], abs=1e-5)
    assert report.metrics["average_precision"] == pytest.approx(sk.average_precision_score(truth, scores[:, 1]))
    assert report.metrics["brier"] == pytest.approx(sk.brier_score_loss(truth, scores[:, 1]))


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 60), seeds, st.floats(0, 20), st.floats(0, 20))
def test_no_threshold_costs_less(rows: int, seed: int, fp: float, fn: float) -> None:
    truth, scores = two(rows, seed)
    found = made(truth, scores, costs={"fp": fp, "fn": fn})[0].threshold

    def cost(said: Array) -> float:
        return float((fp * (said & (truth == 0)) + fn * (~said & (truth == 1))).mean())

    every = [np.inf, *np.unique(scores[:, 1])]
    least = min(cost(scores[:, 1] >= t) for t in every)
    at = np.inf if found["threshold"] is None else found["threshold"]
    assert found["cost"] == pytest.approx(least)
    assert cost(scores[:, 1] >= at) == pytest.approx(least)
    assert found["cost_at_half"] == pytest.approx(cost(scores[:, 1] >= 0.5))
    assert found["tp"] + found["fp"] + found["fn"] + found["tn"] == rows


def test_long_curves_are_thinned_and_keep_their_area() -> None:
    truth, _ = two(20_000, 0)
    second = np.random.default_rng(1).random(20_000) * 0.7 + truth * 0.3
    points = curves.Ranked(truth == 1, second).roc()
    assert len(points["x"]) <= 202
    assert np.trapezoid(points["y"], points["x"]) == pytest.approx(sk.roc_auc_score(truth, second), abs=1e-3)
    steps = curves.Ranked(truth == 1, second).thresholds()
    assert steps["tp"][50] == int((truth[second >= 0.5]).sum())


def test_many_classes_and_values_have_curves_too() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 300)
    report, details = made(truth, random.dirichlet(np.ones(3), 300), ("a", "b", "c"))
    assert set(details.curves["roc"]) == {"a", "b", "c"}
    assert "thresholds" not in details.curves
    assert 0 <= report.metrics["ece"] <= 1
    y = random.normal(size=900)
    report, details = made(y, y + 0.1, (), "regression", costs={"fp": 1, "fn": 1})
    left = details.curves["residuals"]
    assert sum(left["counts"]) + left["beyond"] == 900
    assert len(left["truth"]) == 400
    assert left["by_predicted"][0]["residual"] == pytest.approx(-0.1)
    assert any("no threshold" in note for note in report.notes)


def test_bad_input_is_one_sentence_and_the_rest_is_made() -> None:
    truth, scores = two(200, 0)
    ones = made(np.ones(200, int), scores, costs={"fp": 1, "fn": 5})
    assert any("all rows are of class 'yes'" in note for note in ones[0].notes)
    assert ones[0].threshold == {}
    assert "accuracy" in ones[0].metrics
    assert "calibration" in ones[1].curves
    constant = made(truth, np.tile([0.3, 0.7], (200, 1)))[0]
    assert "the model says 'yes' of every row" in constant.notes
    assert constant.metrics["roc_auc"] == 0.5
    assert "the model says 2 of every row" in made(np.arange(9.0), np.full(9, 2.0), (), "regression")[0].notes
    holes = scores.copy()
    holes[:7, 0] = np.nan
    some = made(truth, holes)[0]
    assert (some.rows, some.left_out) == (193, 7)
    assert "not finite for 7 of 200 rows" in some.notes[0]
    with pytest.raises(Invalid, match="not finite for 200 rows"):
        made(truth, scores * np.nan)
    three = made(truth, np.full((200, 3), 1 / 3), ("a", "b", "c"), costs={"fp": 1}, positive="a")[0]
    assert any("there are 3" in note for note in three.notes)
    assert any("positive='a'" in note for note in three.notes)
    first = made(truth, scores, positive="no", costs={"fp": 1, "fn": 1})[0]
    assert first.threshold["positive"] == "no"
    assert first.how["positive"] == "no"
    assert first.metrics["average_precision"] == pytest.approx(sk.average_precision_score(1 - truth, scores[:, 0]))
