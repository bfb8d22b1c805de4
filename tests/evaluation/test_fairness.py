"""Whether groups are treated alike: rates counted by hand, a planted difference, and what cannot be told."""

from typing import Any

import numpy as np
import pytest

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.evaluation import measuring
from leptonai.evaluation.spec import Evaluate
from leptonai.evaluation.subgroups import Watch

CLASSES = ("no", "yes")


def told(columns: dict[str, Any], truth: Any, scores: Any, classes: tuple[str, ...] = CLASSES, **asked: Any) -> Any:
    kinds = {"U": FeatureType.CATEGORY, "f": FeatureType.NUMBER, "i": FeatureType.INTEGER}
    known = [Column(name=name, type=kinds[np.asarray(values).dtype.kind]) for name, values in columns.items()]
    watch = Watch(known, "left", asked["sensitive"])
    watch.add(columns)
    notes: list[str] = []
    task = "classification" if classes else "regression"
    answers = measuring.Answers(task, classes, "left", np.asarray(truth), np.asarray(scores), watch.levels(notes))
    spec = Evaluate(run="r", data="d", resamples=0, slices=False, **asked)
    return measuring.report(spec, answers, notes)


def sure(said: Any) -> Any:
    """Return scores of a model that is sure."""
    return np.stack([1.0 - np.asarray(said), np.asarray(said)], 1)


def test_rates_are_those_counted_by_hand() -> None:
    sex = np.array(["f"] * 6 + ["m"] * 4)
    truth = np.array([1, 1, 1, 0, 0, 0, 1, 1, 0, 0])
    said = np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    report, details = told({"sex": sex}, truth, sure(said), sensitive=["sex"])
    f, m = (next(one for one in details.groups if one["group"] == group) for group in "fm")
    assert (f["rows"], m["rows"]) == (6, 4)
    assert f["selection_rate"] == pytest.approx(2 / 6)
    assert m["selection_rate"] == pytest.approx(3 / 4)
    assert (f["true_positive_rate"], m["true_positive_rate"]) == (pytest.approx(1 / 3), 1)
    assert (f["false_positive_rate"], m["false_positive_rate"]) == (pytest.approx(1 / 3), 0.5)
    found = report.fairness["sex"]
    assert found["parity_difference"] == pytest.approx(3 / 4 - 2 / 6)
    assert found["odds_difference"] == pytest.approx(2 / 3)
    assert found["accuracy_difference"] == pytest.approx(3 / 4 - 3 / 6)
    assert any("less than 30 rows" in note for note in report.notes)


def test_the_class_looked_for_may_be_the_first() -> None:
    sex = np.array(["f", "f", "m", "m"])
    report, _ = told({"sex": sex}, [0, 0, 0, 0], sure([0, 0, 1, 1]), sensitive=["sex"], positive="no")
    assert report.fairness["sex"]["parity_difference"] == 1


def test_numbers_are_told_by_ranges_and_errors() -> None:
    random = np.random.default_rng(0)
    age = random.uniform(20, 80, 800).astype(np.float32)
    truth = random.normal(size=800)
    wrong = np.where(age > 65, 2.0, 0.5)
    report, details = told({"age": age}, truth, truth + wrong, (), sensitive=["age"])
    assert report.fairness["age"] == {"mae_difference": pytest.approx(1.5, abs=0.2)}
    assert len(details.groups) == 4


def test_of_three_classes_only_the_accuracy_is_told() -> None:
    scores = np.eye(3)[[0, 1, 2, 0]]
    report, _ = told({"sex": np.array(["f", "m"] * 2)}, [0, 1, 2, 1], scores, ("a", "b", "c"), sensitive=["sex"])
    assert set(report.fairness["sex"]) == {"accuracy_difference"}
    assert any("for two classes" in note for note in report.notes)


def test_a_column_of_200_values_and_one_that_is_no_group_are_notes() -> None:
    random = np.random.default_rng(0)
    town = np.array([f"t{i}" for i in random.integers(0, 200, 2000)])
    same = np.array(["x"] * 2000)
    truth = random.integers(0, 2, 2000)
    report, details = told({"town": town, "same": same}, truth, sure(truth), sensitive=["town", "same"])
    assert report.fairness == {}
    assert details.groups == ()
    assert report.metrics["accuracy"] == 1
    said = " ".join(report.notes)
    assert "'town' is not told: it has more than 20 values; make groups of them" in said
    assert "'same' is not told: the dataset has no such column" in said
