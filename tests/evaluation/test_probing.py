"""Rows that are changed: the sample is fair, a column that matters is found, and what spoils rows does what its name says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.test_work import diabetes, learnt, wine

from leptonai.core.errors import Invalid
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.evaluation import probing
from leptonai.evaluation.probing import Asked, Sample
from leptonai.evaluation.spec import Evaluate, Report
from leptonai.evaluation.work import evaluate

Array = np.ndarray[Any, Any]


def wrong(truth: Array, scores: Array) -> Array:
    return np.asarray(scores.argmax(1) != truth, np.float64)


def sampled(rows: dict[str, Array], truth: Array, batch: int = 100) -> Sample:
    sample = Sample(list(rows), 0)
    for at in range(0, len(truth), batch):
        sample.add({name: values[at : at + batch] for name, values in rows.items()}, truth[at : at + batch])
    return sample


@given(batch=st.integers(1, 500))
@settings(max_examples=20)
def test_a_sample_is_the_same_however_the_rows_come(batch: int) -> None:
    rows = {"a": np.arange(5000), "b": np.arange(5000) * 2.0}
    one, other = sampled(rows, np.arange(5000)), sampled(rows, np.arange(5000), batch)
    assert len(one.truth) == probing.ROWS
    assert np.array_equal(one.truth, other.truth)
    assert np.array_equal(other.rows["b"], other.truth * 2.0)  # rows stay whole
    assert abs(one.truth.mean() - 2500) < 200


def test_wide_rows_are_fewer() -> None:
    rows = {"image": np.zeros((400, 256, 256, 3), np.uint8)}
    sample = sampled(rows, np.zeros(400, int))
    assert len(sample.truth) == probing.BYTES // (256 * 256 * 3)


def test_the_column_that_matters_is_the_first() -> None:
    random = np.random.default_rng(0)
    rows = {"noise": random.normal(size=1000), "signal": random.normal(size=1000)}
    truth = (rows["signal"] > 0).astype(int)

    def scores(batch: Any) -> Array:
        return np.stack([-batch["signal"], batch["signal"]], 1)

    notes: list[str] = []
    found = probing.importance(Asked(sampled(rows, truth), scores, wrong), 0, notes)
    assert [one["column"] for one in found] == ["signal", "noise"]
    assert found[0]["importance"] == pytest.approx(0.5, abs=0.05)  # a coin's throw
    assert found[1] == {"column": "noise", "importance": 0, "spread": 0}
    assert not notes


def test_pictures_are_spoilt_more_by_each_severity_and_stay_pictures() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 12, 12, 1), np.uint8)
    column = Column(name="image", type=FeatureType.IMAGE, shape=(12, 12, 1), dtype="uint8")
    seen = {}
    for way, named, severities in probing.ways({"image": column}, {"image": images}):
        assert named == ("image",)
        moved = []
        for spoil in severities:
            spoilt = spoil(images, np.random.default_rng(1))
            assert (spoilt.dtype, spoilt.shape) == (images.dtype, images.shape)
            moved.append(float(np.abs(spoilt.astype(float) - images).mean()))
        assert moved[0] > 0
        assert moved == sorted(moved), way
        seen[way] = moved
    assert set(seen) == {"noise", "blur", "brightness", "contrast", "a hidden square"}


def test_a_model_that_takes_no_missing_value_is_asked_the_rest() -> None:
    values = np.random.default_rng(0).normal(size=300)
    column = Column(name="x", type=FeatureType.NUMBER)

    def scores(batch: Any) -> Array:
        if np.isnan(batch["x"]).any():
            raise Invalid("column 'x' has no value in row 3")
        return np.stack([-batch["x"], batch["x"]], 1)

    notes: list[str] = []
    asked = Asked(sampled({"x": values}, (values > 0).astype(int)), scores, wrong)
    whole, told = probing.robustness(asked, [column], 0, notes)
    assert whole == 0
    assert [one["severity"] for one in told] == [1, 2, 3, 4, 5]
    assert told[-1]["error"] > told[0]["error"] > 0
    assert notes == ["robustness to missing values is not told: column 'x' has no value in row 3"]


def test_both_stand_in_the_report(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    handle, run = learnt(tmp_path, wine(), "kind", LogisticRegression())
    asked = Evaluate(run=run.id, data="test", importance=True, robustness=True, resamples=0)
    report = Report.model_validate(evaluate(asked, handle))
    assert {one["column"] for one in report.importance} == {"f0", "f1", "f2", "f3", "f4", "strong"}
    assert report.importance[0]["importance"] > 0.1
    assert report.robustness["clean"] == pytest.approx(report.metrics["accuracy"])
    assert report.robustness["worst"] < report.robustness["clean"]
    assert {one["way"] for one in report.robustness["told"]} >= {"noise on numbers"}
    again = Report.model_validate(evaluate(asked, handle))
    assert (again.importance, again.robustness) == (report.importance, report.robustness)
    handle, run = learnt(tmp_path / "second", diabetes(), "y", LinearRegression())
    report = Report.model_validate(evaluate(asked.model_copy(update={"run": run.id}), handle))
    assert report.robustness["metric"] == "mae"
    assert report.robustness["worst"] > report.robustness["clean"]


def test_columns_that_cannot_be_spoilt_are_a_note() -> None:
    rows = {"n": np.arange(50)}
    notes: list[str] = []
    column = Column(name="n", type=FeatureType.INTEGER, shape=(), dtype="int64")
    asked = Asked(sampled(rows, np.zeros(50, int)), lambda batch: np.stack([batch["n"] >= 0, batch["n"] < 0], 1), wrong)
    assert probing.robustness(asked, [column], 0, notes) == (0.0, ())
    assert notes == ["robustness is not told: no column can be spoilt"]


def test_attacks_cost_a_network_more_than_noise_and_a_tree_has_none(tmp_path: Path) -> None:
    from sklearn.tree import DecisionTreeClassifier
    from torch import nn

    asked = Evaluate(run="", data="test", robustness=True, slices=False, resamples=0)
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3))
    handle, run = learnt(tmp_path / "torch", wine(), "kind", model, epochs=30, batch_size=16)
    report = Report.model_validate(evaluate(asked.model_copy(update={"run": run.id}), handle))
    found = report.robustness
    assert [(one["way"], one["severity"]) for one in found["attacks"]] == [
        (way, severity) for way in ("FGSM", "PGD") for severity in range(1, 6)
    ]
    assert found["worst_attacked"] < found["worst"] <= found["clean"] + 0.1
    assert found["attacks"][4]["value"] <= found["attacks"][0]["value"]
    handle, run = learnt(tmp_path / "tree", wine(), "kind", DecisionTreeClassifier())
    report = Report.model_validate(evaluate(asked.model_copy(update={"run": run.id}), handle))
    assert "attacks" not in report.robustness
    assert "attacks are not told: they go along gradients, and it has none here (sklearn)" in report.notes
