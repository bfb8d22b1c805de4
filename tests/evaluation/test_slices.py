"""The slice finder finds a subgroup that was planted, and none where there is none; what it says is what can be counted."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.support.handle import reader_of

from leptonai.core.nouns import Column
from leptonai.evaluation import measuring, slices
from leptonai.evaluation.spec import Evaluate
from leptonai.evaluation.subgroups import Levels, Watch

Array = np.ndarray[Any, Any]
ROWS = 3000


def table(seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        "age": random.normal(40, 12, ROWS).round(1),
        "income": random.lognormal(10, 0.5, ROWS),
        "visits": random.integers(0, 6, ROWS),
        "plan": np.array(["basic", "pro", "team"], object)[random.integers(0, 3, ROWS)],
        "north": random.random(ROWS) < 0.4,
        "noise": random.normal(size=ROWS),
    }


def found(data: dict[str, Array], wrong: Array, task: str = "classification") -> list[dict[str, Any]]:
    watch = Watch(reader_of(data, None).columns, "y")
    for at in range(0, ROWS, 700):
        watch.add({name: values[at : at + 700] for name, values in data.items()})
    columns = watch.levels([])
    truth = np.zeros(ROWS, int) if task == "classification" else np.zeros(ROWS)
    scores = np.stack([1 - wrong, wrong * 1.0], 1) if task == "classification" else wrong
    answers = measuring.Answers(task, ("a", "b") if task == "classification" else (), "y", truth, scores, columns)
    report, details = measuring.report(Evaluate(run="r", data="d", resamples=0), answers)
    assert report.slices["found"] == len(details.slices)
    return list(details.slices)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_planted_subgroup_is_found_and_none_on_clean_data(task: str) -> None:
    right = clean = 0
    for seed in range(20):
        data = table(seed)
        random = np.random.default_rng(seed + 100)
        bad = (data["plan"] == "pro") & (data["visits"] >= 4)
        rate = np.where(bad, 0.3, 0.1)
        if task == "classification":
            planted, even = random.random(ROWS) < rate, random.random(ROWS) < 0.1
        else:
            planted, even = random.standard_t(3, ROWS) * rate, random.standard_t(3, ROWS)
        first = found(data, planted, task)
        right += bool(first) and first[0]["where"].get("plan") == "pro" and set(first[0]["where"]) <= {"plan", "visits"}
        clean += not found(data, even, task)
    assert (right >= 19, clean >= 19) == (True, True)


def test_what_is_said_of_a_subgroup_can_be_counted() -> None:
    data = table(0)
    bad = data["plan"] == "team"
    wrong = np.random.default_rng(1).random(ROWS) < np.where(bad, 0.4, 0.1)
    (one,) = (line for line in found(data, wrong) if line["where"] == {"plan": "team"})
    assert (one["rows"], one["value"]) == (int(bad.sum()), pytest.approx(1 - wrong[bad].mean()))
    assert one["rest"] == pytest.approx(1 - wrong[~bad].mean())
    assert one["difference"] == pytest.approx(one["value"] - one["rest"])
    square = [
        [int((wrong & bad).sum()), int((~wrong & bad).sum())],
        [int((wrong & ~bad).sum()), int((~wrong & ~bad).sum())],
    ]
    assert one["p"] == pytest.approx(stats.fisher_exact(square, alternative="greater").pvalue, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_correction_is_that_of_scipy(p: list[float]) -> None:
    assert slices.corrected(np.array(p)) == pytest.approx(stats.false_discovery_control(p))


def test_levels_say_what_rows_they_hold() -> None:
    stamps = np.array([0, 10**15, 2 * 10**15, 3 * 10**15], "datetime64[us]")
    data = {
        "a": np.array([1.0, 2.0, np.nan, 4.0]), "w": np.array([5, 5, 7, 5]), "c": np.array(["x", None, "y", "x"], object),
        "one": np.ones(4), "t": stamps,
    }  # fmt: skip
    watch = Watch(reader_of(data, None).columns, "y")
    watch.add(data)
    made = {one.name: one for one in watch.levels([])}
    assert made["a"].words[-1] == "missing"
    assert made["w"].words == ("5", "7")
    assert [made["c"].words[code] for code in made["c"].codes] == ["x", "missing", "y", "x"]
    assert "one" not in made
    assert made["t"].words[0].startswith("below 19")
    hidden = Column(name="a", type="number", pii=True)
    assert Watch((hidden, Column(name="y", type="number")), "y").names == ()


def test_a_column_of_200_values_is_one_sentence() -> None:
    notes: list[str] = []
    zips = np.array([f"z{number % 200:03}" for number in range(ROWS)], object)
    watch = Watch(reader_of({"zip": zips}, None).columns, "y")
    watch.add({"zip": zips})
    (levels,) = watch.levels(notes)
    assert len(levels.words) == 20
    assert notes == ["column 'zip' has 200 values: only its 20 most frequent ones are looked at as subgroups"]
    assert slices.find(slices.search_of(np.zeros(ROWS), exact=True), [levels], notes)["found"] == []


def test_few_rows_have_no_subgroups() -> None:
    tiny = Levels("a", np.array([0, 1, 0, 1], np.int16), ("0", "1"))
    assert slices.find(slices.search_of(np.array([1.0, 0, 1, 0]), exact=True), [tiny], [])["tested"] == 0
