"""Cross-validation: nothing of a fold is known to the model that judges it, and an attempt goes on after the folds that are done."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import TimeSeriesSplit
from tests.support.handle import FileHandle, reader_of

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.stages import Shuffle
from leptonai.evaluation.cross_work import cross_validate
from leptonai.evaluation.spec import CrossValidate, Details, Report
from leptonai.sdk.report_page import page
from leptonai.training.crossing import by_group, by_time
from leptonai.training.fewer import Mislabelled, fewer
from leptonai.training.folds import fold_numbers

ROWS = 240


def table() -> dict[str, Any]:
    random = np.random.default_rng(0)
    x = random.normal(size=ROWS) * 50 + 1000
    house = random.integers(0, 30, ROWS)
    kind = np.where((x + random.normal(size=ROWS) * 30) > 1000, "yes", "no").astype(object)
    day = np.datetime64("2026-01-01", "us") + np.arange(ROWS).astype("timedelta64[D]")
    return {"x": x, "house": house, "day": day.astype("datetime64[us]"), "z": random.normal(size=ROWS), "kind": kind}


def asked(folder: Path, model: Any, target: str, **more: Any) -> tuple[CrossValidate, FileHandle]:
    handle = FileHandle(folder / "job", "cross_validate", {"d": reader_of(table(), target)})
    framework = plugins.framework_of(model)
    packed = framework.pack(model, {})
    train = {
        "data": "d", "target": target, "framework": framework.name, "flavour": packed.flavour, "code": handle.write(packed.code),
        "features": ["x", "z"] if target == "kind" else ["z", "house"],
    }  # fmt: skip
    return CrossValidate(data="d", train=train, **{"resamples": 50, **more}), handle


def test_folds_are_those_of_scikit_learn_by_hand(tmp_path: Path) -> None:
    spec, handle = asked(tmp_path, LogisticRegression(), "kind", folds=4, costs={"fp": 1, "fn": 2})
    found = Report.model_validate(cross_validate(spec, handle))
    data = table()
    numbers = (data["kind"] == "yes").astype(int)
    fold = fold_numbers(numbers, 4, 0)
    features = np.stack([data["x"], data["z"]], 1)
    for one in found.folds:
        kept = fold != one["fold"] - 1
        mean, std = features[kept].mean(0), features[kept].std(0)  # of the rows that it learns from, not of all
        scaled = ((features - mean) / std).astype(np.float32)
        wanted = LogisticRegression().fit(scaled[kept], numbers[kept]).score(scaled[~kept], numbers[~kept])
        assert one["metrics"]["accuracy"] == pytest.approx(wanted)
        assert (one["rows"], one["learnt_from"]) == ((~kept).sum(), kept.sum())
        assert abs(np.bincount(numbers[~kept])[1] - numbers.sum() / 4) <= 1
    assert found.rows == ROWS
    assert found.intervals["accuracy"][0] < found.metrics["accuracy"] < found.intervals["accuracy"][1]
    assert found.threshold["positive"] == "yes"
    assert "roc" in Details.model_validate_json(handle.read(found.details or "")).curves


def test_an_attempt_goes_on_after_the_folds_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, handle = asked(tmp_path, LogisticRegression(), "kind", folds=4)
    whole = cross_validate(spec, handle)
    spec, second = asked(tmp_path / "again", LogisticRegression(), "kind", folds=4)

    def dies(done: float, total: float, unit: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(second, "progress", dies)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(spec, second)
    monkeypatch.undo()
    rest = cross_validate(spec, second)
    assert second.saves == 4
    assert rest["metrics"] == whole["metrics"]
    assert rest["intervals"] == whole["intervals"]


def test_groups_and_time(tmp_path: Path) -> None:
    spec, handle = asked(tmp_path, Ridge(), "x", folds=3, by="time", column="day")
    found = Report.model_validate(cross_validate(spec, handle))
    assert [one["learnt_from"] for one in found.folds] == [60, 120, 180]
    assert found.rows == 180
    assert set(found.metrics) == {"mae", "rmse", "r2"}
    spec, handle = asked(tmp_path / "group", LogisticRegression(), "kind", folds=3, by="group", column="house")
    assert Report.model_validate(cross_validate(spec, handle)).rows == ROWS
    for by, column, words in (("group", None, "needs column"), ("time", "kind", "neither a number nor a time")):
        spec, handle = asked(tmp_path / by, LogisticRegression(), "kind", folds=3, by=by, column=column)
        with pytest.raises(Invalid, match=words):
            cross_validate(spec, handle)


def test_a_fold_that_cannot_be_judged_is_a_note(tmp_path: Path) -> None:
    spec, handle = asked(tmp_path, LogisticRegression(), "kind", folds=3, by="time", column="day")
    data = table()
    data["kind"][:70] = "no"  # the first block has one class only
    handle.datasets["d"] = reader_of(data, "kind")
    found = Report.model_validate(cross_validate(spec, handle))
    assert [one["fold"] for one in found.folds] == [2, 3]
    assert any("fold 1 is not judged" in note and "one class only" in note for note in found.notes)
    spec, handle = asked(tmp_path / "few", LogisticRegression(), "kind", folds=100)
    handle.datasets["d"] = reader_of({name: values[:50] for name, values in table().items()}, "kind")
    with pytest.raises(Invalid, match="50 rows, too few for 100 folds"):
        cross_validate(spec, handle)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=20, max_size=200), st.integers(2, 4), st.integers(0, 99))
def test_no_group_is_in_two_folds(values: list[int], folds: int, seed: int) -> None:
    if len(set(values)) < folds:
        with pytest.raises(Invalid, match="too few"):
            by_group(np.array(values), folds, seed)
        return
    place = by_group(np.array(values), folds, seed)
    assert set(place.tolist()) == set(range(folds))
    for value in set(values):
        assert len(set(place[np.array(values) == value].tolist())) == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(30, 200), st.integers(2, 6), st.randoms())
def test_time_is_that_of_scikit_learn_and_never_looks_ahead(rows: int, folds: int, random: Any) -> None:
    rows -= rows % (folds + 1)
    times = list(range(rows))
    random.shuffle(times)
    place = by_time(np.array(times, float), folds, "t")
    order = np.argsort(times)
    for number, (train, test) in enumerate(TimeSeriesSplit(folds).split(order)):
        assert set(np.flatnonzero(place <= number)) == set(order[train])
        assert set(np.flatnonzero(place == number + 1)) == set(order[test])
    tied = by_time(np.array(times, float) // 3, folds, "t") if rows // 3 > 3 * folds else None
    if tied is not None:
        for at in range(folds):
            assert np.max(np.array(times)[tied == at] // 3) < np.min(np.array(times)[tied == at + 1] // 3)


def test_fewer_rows_and_wrong_labels_cost_and_an_attempt_goes_on(tmp_path: Path) -> None:
    spec, handle = asked(tmp_path, LogisticRegression(), "kind", folds=4, curve=[0.05, 0.5], noise=[0.45], resamples=0)
    record = cross_validate(spec, handle)
    found = Report.model_validate(record)
    assert [(one["share"], one["rows"], one["folds"]) for one in found.curve] == [
        (0.05, 9, 3),
        (0.5, 90, 3),
        (1.0, 180, 3),
    ]
    assert [one["share"] for one in found.noise] == [0.0, 0.45]
    clean, noisy = found.noise
    assert clean["metrics"]["accuracy"] == found.curve[-1]["metrics"]["accuracy"]
    assert clean["metrics"]["accuracy"] == pytest.approx(
        np.mean([one["metrics"]["accuracy"] for one in found.folds[1:]])
    )
    assert noisy["metrics"]["accuracy"] < clean["metrics"]["accuracy"]
    assert noisy["low"] <= noisy["metrics"]["accuracy"] <= noisy["high"]
    saves = handle.saves
    assert cross_validate(spec, handle)["curve"] == record["curve"]  # all is known by its checkpoint
    assert handle.saves == saves
    details = Details.model_validate_json(handle.read(record["details"]))
    text = page(found, details)
    assert "With fewer rows" in text
    assert "With wrong labels" in text


@pytest.mark.parametrize(("by", "column"), [("class", None), ("group", "house"), ("time", "day")])
def test_settings_are_chosen_within_each_fold(tmp_path: Path, by: str, column: str | None) -> None:
    tune = {
        "space": {"C": {"kind": "choice", "choices": [1e-9, 1.0]}},
        "sampler": "grid",
    }
    spec, handle = asked(tmp_path, LogisticRegression(), "kind", folds=2, by=by, column=column, tune=tune, resamples=0)
    record = cross_validate(spec, handle)
    found = Report.model_validate(record)
    assert [one["params"] for one in found.folds] == [{"C": 1.0}] * 2
    assert [one["trials"] for one in found.folds] == [2, 2]
    assert "Settings were chosen anew for each fold" in page(found, Details())
    assert any("of 2 trials the best has" in line for line in handle.lines)


@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 50))
@settings(max_examples=20)
def test_a_smaller_part_lies_within_a_larger_one(share: float, seed: int) -> None:
    kept = np.random.default_rng(seed).random(200) < 0.6
    part = fewer(kept, share, seed, None)
    assert not (part & ~kept).any()
    assert part.sum() == max(1, round(share * kept.sum()))
    assert not (fewer(kept, share / 2, seed, None) & ~part).any()
    time = np.arange(200)[::-1]
    latest = fewer(kept, share, seed, time)
    if (rest := kept & ~latest).any():
        assert time[latest].min() > time[rest].max()


def test_wrong_labels_are_the_same_in_whatever_order_rows_come() -> None:
    reader = reader_of(table(), "kind")
    wrong = Mislabelled(reader, "kind", 0.3, 0, classes=True)
    labels = wrong.read()["kind"]
    assert (labels != table()["kind"]).sum() == 72
    shuffle = Shuffle(3)
    order = wrong.order(shuffle, 1)
    parts = list(wrong.batches(50, columns=("x", "kind"), shuffle=shuffle, epoch=1, start=100))
    assert (np.concatenate([part["kind"] for part in parts]) == labels[order[100:]]).all()
    assert (np.concatenate([part["x"] for part in parts]) == table()["x"][order[100:]]).all()
    numbers = Mislabelled(reader_of(table(), "z"), "z", 0.5, 0, classes=False).read(("z",))["z"]
    assert 100 < (numbers != table()["z"]).sum() <= 120
    assert set(numbers) <= set(table()["z"])
