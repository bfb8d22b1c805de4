"""A search for a model from its spec to its result, with real models on real rows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.support.handle import FileHandle, reader_of
from tests.support.ratings import planted
from tests.support.series import planted as planted_series
from tests.support.series import times

from leptonai.core.errors import Invalid, MissingExtra
from leptonai.training.auto import families
from leptonai.training.auto.bench import Bench
from leptonai.training.predictor import from_files
from leptonai.training.spec import Fitted
from leptonai.tuning.auto import work
from leptonai.tuning.auto.journal import Course
from leptonai.tuning.auto.spec import Auto, Candidate, Found

pytestmark = pytest.mark.usefixtures("warm", "here")


def table(rows: slice) -> dict[str, Any]:
    """Return some rows of the tumours: five numbers, one of which is missing here and there, and a category made of a sixth."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    data: dict[str, Any] = {f"c{i}": found.data[rows, i] for i in range(5)}
    data["c1"] = np.where(np.arange(len(data["c1"])) % 11 == 0, np.nan, data["c1"])
    data["texture"] = np.array(["smooth", "rough", "odd"], object)[np.digitize(found.data[rows, 21], [20, 28])]
    data["diagnosis"] = np.array([str(found.target_names[i]) for i in found.target[rows]], dtype=object)
    return data


def handle_for(folder: Path, **data: dict[str, Any]) -> FileHandle:
    parts = data or {"train": table(slice(0, 400)), "test": table(slice(400, 569))}
    return FileHandle(folder, "auto", {name: reader_of(rows, "diagnosis") for name, rows in parts.items()})


def asked(**more: Any) -> Auto:
    train = {"data": "train", "target": "diagnosis", "flavour": "sklearn"}
    document = {"data": "train", "test": "test", "target": "diagnosis", "kind": "table", "train": train, "budget": 60}
    return Auto.model_validate({**document, **more})


def searched(handle: FileHandle, **more: Any) -> Found:
    return Found.model_validate(work.auto(asked(**more), handle))


# More than enough time: what is found must not depend on how busy the machine is.
FEW = {"families": ("linear", "lightgbm", "blend"), "candidates": 3, "budget": 900}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, list[dict[str, Any]]]:
    """Return what a search found, and its journal."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        handle = handle_for(folder / "job")
        return searched(handle, **FEW), handle.noted()


def test_the_best_of_several_kinds_is_kept_and_tested_once(whole: tuple[Found, list[dict[str, Any]]]) -> None:
    found, first = whole[0], whole[0].leaderboard[0]
    assert found.metric == "roc_auc" and found.larger and found.folds == 5 and found.rows == 400
    assert {line.name for line in found.leaderboard} >= {"baseline", "linear", "lightgbm"}
    assert found.chosen == first.number and first.score == max(line.score or 0 for line in found.leaderboard) > 0.95
    assert found.leaderboard[-1].name == "baseline" and found.leaderboard[-1].score == 0.5
    assert all(line.state == "done" and len(line.scores) == 5 and line.seconds > 0 for line in found.leaderboard)
    assert found.tested["rows"] == 169 and found.tested["metrics"]["roc_auc"] > 0.9
    low, high = found.tested["intervals"]["roc_auc"]
    assert low < found.tested["metrics"]["roc_auc"] < high
    fitted = Fitted.model_validate(found.kept.fitted)
    assert fitted.encoding.classes == ("benign", "malignant") and found.kept.spec["code"] == fitted.code


def test_what_was_told_is_not_tried_again(whole: tuple[Found, list[dict[str, Any]]], tmp_path: Path) -> None:
    told = [entry for entry in whole[1] if entry["kind"] == "told"]
    again = handle_for(tmp_path / "again")
    again.note(*told[:2], {"kind": "asked", "number": 2, "name": "lightgbm"})  # it was at work when the attempt ended
    found = searched(again, **FEW)
    numbers = [entry["candidate"]["number"] for entry in again.noted() if entry["kind"] == "told"]
    assert numbers == [entry["candidate"]["number"] for entry in told]
    assert [line.scores for line in found.leaderboard] == [line.scores for line in whole[0].leaderboard]


def test_a_candidate_that_takes_more_than_its_share_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leptonai.training.auto import models

    def slow(*_: Any) -> Any:
        import time

        time.sleep(60)

    monkeypatch.setitem(models._MAKERS, "linear", slow)
    found = searched(handle_for(tmp_path / "job"), families=("linear",), budget=6)
    cut = next(line for line in found.leaderboard if line.name == "linear")
    assert cut.state == "cut" and cut.score is None and "more than its share" in (cut.error or "")
    assert found.leaderboard[0].name == "baseline" and found.chosen == 0


def test_a_model_that_was_judged_is_kept_though_the_budget_is_spent(
    whole: tuple[Found, list[dict[str, Any]]], tmp_path: Path
) -> None:
    handle = handle_for(tmp_path / "job")
    for entry in (entry for entry in whole[1] if entry["kind"] == "told"):
        line = entry["candidate"]
        if line["name"] != "baseline":  # each fit alone would take more than the whole budget
            line = {**line, "fit_seconds": 1000.0 + line["number"]}
        handle.note({**entry, "candidate": line, "seconds": 2000.0})
    found = searched(handle, **FEW)
    assert found.seconds > 2000 > found.budget
    chosen = next(line for line in found.leaderboard if line.number == found.chosen)
    # Of models that are late the quickest.
    assert chosen.name == "linear" and found.tested["metrics"]["roc_auc"] > 0.9
    assert all("is not kept: there was no time left" in note for note in found.notes)


def line_of(number: int, family: str, score: float | None, seconds: float = 0.0) -> Candidate:
    state: Any = "cut" if score is None else "done"
    about: dict[str, Any] = {"name": family, "family": family, "words": "", "fit_seconds": seconds}
    return Candidate(number=number, state=state, score=score, scores=() if score is None else (score,), **about)


def searching(folder: Path, *told: Candidate) -> work.Search:
    worker: Any = SimpleNamespace(seconds=0.0, facts={"folds": 5, "metric": "roc_auc", "blends": ()})
    return work.Search(
        asked(budget=2700), handle_for(folder), worker, Course(told={line.number: line for line in told})
    )


def test_a_candidate_told_by_few_folds_gains_nothing_where_these_were_easy(tmp_path: Path) -> None:
    def told(number: int, *scores: float, state: str = "done") -> Candidate:
        line = line_of(number, f"family-{number}", sum(scores) / len(scores))
        return line.model_copy(update={"scores": scores, "state": state})

    whole = told(1, 0.99, 0.93, 0.9), told(2, 0.97, 0.92, 0.89)
    worse, better = told(3, 0.98, state="part"), told(4, 0.999, state="part")
    ranked = searching(tmp_path, *whole, worse, better)._ranked()
    assert [line.number for line in ranked] == [4, 1, 3, 2]


def test_what_is_not_installed_is_not_tried_and_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families._NEEDS, ("table", "lightgbm"), ("no_such_library", "boosting"))
    found = searched(handle_for(tmp_path / "job"), candidates=3, budget=900)
    assert [line.name for line in found.leaderboard if line.family == "lightgbm"] == []
    assert [note for note in found.notes if "lepton-ai-sdk[boosting]" in note] == [
        "lightgbm is not tried: it needs  pip install 'lepton-ai-sdk[boosting]'"
    ]
    with pytest.raises(MissingExtra, match="lightgbm needs"):
        searched(handle_for(tmp_path / "other"), families=("lightgbm",))


def test_candidates_get_more_time_while_there_is_no_model(tmp_path: Path) -> None:
    def share(*told: Candidate) -> float:
        return searching(tmp_path / str(len(told)), *told)._share()

    baseline, cut = line_of(0, "baseline", 0.5), line_of(1, "linear", None)
    # A fold and a fit on all rows fit into what is left, also where the first that was tried is cut off.
    assert share(baseline) == pytest.approx(1000, rel=0.02) == share(baseline, cut)
    assert share(baseline, cut, line_of(2, "lightgbm", 0.9)) == pytest.approx(900, rel=0.02)


def test_nothing_is_tried_in_less_time_than_the_quickest_model_took(tmp_path: Path) -> None:
    baseline = line_of(0, "baseline", 0.5)
    assert searching(tmp_path / "a", baseline, line_of(1, "linear", 0.9, seconds=300))._room()
    assert not searching(tmp_path / "b", baseline, line_of(1, "linear", 0.9, seconds=700))._room()


def test_a_network_learns_for_as_many_epochs_as_there_is_time_for(tmp_path: Path) -> None:
    def epochs(asked: int, *told: Candidate) -> int | None:
        candidate = {"name": "longer", "family": "network", "settings": {"epochs": asked, "rate": 1}}
        search = searching(tmp_path / f"{asked} {len(told)}", line_of(0, "baseline", 0.5), *told)
        found = search._fitting(candidate)
        return found and found["settings"]["epochs"]

    def network(number: int, epochs: int, **more: Any) -> Candidate:
        about: dict[str, Any] = {"settings": {"epochs": epochs}, **more}
        return line_of(number, "network", 0.9).model_copy(update=about)

    short, quick = network(1, 10, fit_seconds=500.0), network(2, 20, fit_seconds=100.0)
    assert epochs(1000) == 1000  # nothing is known of its family
    # Of 2700 s a little less than a third, of which not all is planned with, by the last that was judged.
    assert epochs(100, short, quick) == 100 and 115 < epochs(200, short, quick) < 127
    cut = network(3, 20, state="cut", score=None, seconds=800.0)
    assert epochs(100, short, quick, cut) in (14, 15)
    best = network(4, 60, score=0.95, fit_seconds=100.0)
    assert epochs(100, short, best, cut) is None  # not half as long as the best
    assert epochs(100, short, network(5, 20, fit_seconds=1500.0)) is None  # one that is as short was judged


def changed(**columns: Any) -> dict[str, Any]:
    return {**table(slice(0, 60)), **columns}


def labels(**counts: int) -> Any:
    return np.array([name for name, count in counts.items() for _ in range(count)], object)


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        (changed(diagnosis=labels(a=60)), {}, "has one class only, 'a'"),
        (changed(diagnosis=labels(a=59, b=1)), {}, "has 1 row of class 'b' in train, too few for 2 folds"),
        (changed(diagnosis=labels(a=57, b=3)), {"folds": 5}, "has 3 rows of class 'b' in train, too few for 5 folds: ask for fewer"),
        (changed(diagnosis=np.array([None, *["a", "b"] * 29, "a"], object)), {}, "'diagnosis' is empty in 1 row of train"),
        (changed(diagnosis=np.full(60, 2.0)), {}, "has one value only, 2, in train"),
        (changed(diagnosis=np.where(np.arange(60) == 3, np.nan, 1.0 * np.arange(60))), {}, "is empty in 1 row of train"),
        (changed(), {"families": ("trees",)}, "there is no 'trees' for a table: use some of linear, boosting"),
    ],
    ids=["one class", "one row", "few rows", "no label", "constant", "no value", "family"],
)  # fmt: skip
def test_what_cannot_be_learnt_is_told_in_a_sentence(tmp_path: Path, rows: Any, more: Any, words: str) -> None:
    handle, spec = handle_for(tmp_path / "job", train=rows, test=rows), asked(**more)
    with pytest.raises(Invalid, match=words):
        Bench(spec.train, spec.model_dump(), handle)


def test_a_metric_that_there_is_none_of_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="there is no 'auc' here: use one of accuracy"):
        searched(handle_for(tmp_path / "job"), metric="auc")


def test_ratings_get_biases_and_factors(tmp_path: Path) -> None:
    x, y = planted(users=50, items=30, rank=2, rows=1200)
    names = {"user": x[:, 0].astype(np.int64) * 1000, "item": np.array([f"i{place:g}" for place in x[:, 1]], object)}
    parts = {"train": slice(0, 1000), "test": slice(1000, 1200)}
    readers = {
        part: reader_of({**{name: column[rows] for name, column in names.items()}, "stars": y[rows]}, "stars")
        for part, rows in parts.items()
    }
    handle = FileHandle(tmp_path / "job", "auto", readers)
    train = {"data": "train", "target": "stars", "flavour": "sklearn", "features": ["user", "item"]}
    found = searched(handle, kind="ratings", target="stars", train=train, candidates=4, budget=900)
    scores = {line.family: line.score for line in found.leaderboard}
    assert found.metric == "rmse" and found.leaderboard[-1].name == "baseline"
    assert found.leaderboard[0].family in ("factors", "blend")
    assert scores["factors"] < 0.8 * scores["biases"] < 0.8 * scores["baseline"]
    assert found.tested["metrics"]["rmse"] < 0.8 * scores["biases"]
    fitted = Fitted.model_validate(found.kept.fitted)
    assert [feature.op for feature in fitted.encoding.features] == ["index", "index"]


def of_series(shops: int = 1, **more: Any) -> dict[str, Any]:
    """Return 120 days of some shops."""
    y = np.concatenate([planted_series(120, 7, seed=shop) + 30 * shop for shop in range(shops)])
    names = np.repeat(np.array([f"shop {shop}" for shop in range(shops)], object), 120)
    rows = {"day": np.tile(times("2019-01", 120, "D"), shops), "shop": names, "sold": y}
    return rows | {"heat": np.random.default_rng(0).normal(size=len(y))} | more


def in_time(folder: Path, rows: dict[str, Any], **more: Any) -> tuple[FileHandle, dict[str, Any]]:
    handle = FileHandle(folder, "auto", {"train": reader_of(rows, "sold")})
    train = {"data": "train", "target": "sold", "flavour": "sklearn", "features": ["day", "shop"]}
    return handle, {
        "kind": "series",
        "by": "time",
        "target": "sold",
        "test": None,
        "train": train,
        "budget": 900,
        **more,
    }


def test_series_are_judged_in_time_and_told_after_their_end(tmp_path: Path) -> None:
    handle, spec = in_time(
        tmp_path / "job", of_series(shops=3), candidates=5, folds=3, families=("naive", "smoothing", "blend")
    )
    found = searched(handle, **spec)
    board = {line.name: line for line in found.leaderboard}
    assert found.folds == 3 and found.tested["rows"] == 36 and found.test is None
    assert board["smoothing"].score < board["baseline"].score < board["last"].score
    assert "12 steps of 1 day are told ahead, for 3 series by 'shop'" in found.notes[0]
    fitted = Fitted.model_validate(found.kept.fitted)
    assert [feature.op for feature in fitted.encoding.features] == ["moment", "index"]
    with handle.blobs.open(fitted.code) as code, handle.blobs.open(fitted.weights) as weights:
        model = from_files(code.read(), weights.read(), found.kept.fitted)
    later = {"day": times("2019-05-01", 14, "D"), "shop": np.array(["shop 2"] * 14, object)}
    said = model.scores(later)
    truth = planted_series(134, 7, seed=2)[120:132] + 60
    assert np.abs(said[:12] - truth).mean() < 1 and np.isnan(said[12:]).all()


def test_what_is_known_ahead_is_learnt_from_where_it_is_named(tmp_path: Path) -> None:
    rows = of_series()
    rows["sold"] = rows["sold"] + 5 * rows["heat"]
    handle, spec = in_time(
        tmp_path / "job", rows, features=("day", "heat"), families=("lags",), candidates=3, horizon=5
    )
    spec["train"]["features"] = ["day", "heat"]
    found = searched(handle, **spec)
    assert found.leaderboard[0].family == "lags" and found.leaderboard[0].score < 0.7 * found.leaderboard[-1].score


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        (of_series(2, shop=np.array(["a"] * 240, object)), {}, "rows 0 and 120 have the same time, 2019-01-01, in one series"),
        (of_series(day=np.where(np.arange(120) == 5, np.datetime64("NaT"), times("2019-01", 120, "D"))), {}, "row 5 of train has no time"),
        (of_series(day=times("2019-01", 120, "D") + (np.arange(120) == 7) * np.timedelta64(1, "h")), {}, "row 7: the time 2019-01-08 01:00:00 is not on the steps of 1 day"),
        (of_series(), {"horizon": 50}, "has 120 steps of 1 day, too few to tell 50 ahead in 2 folds and a test: horizon at most"),
        (of_series(sold=np.where(np.arange(120) == 5, np.nan, np.arange(120.0))), {}, "'sold' is empty in 1 row"),
    ],
    ids=["twice", "no time", "between", "short", "no value"],
)  # fmt: skip
def test_what_is_no_series_is_told_in_a_sentence(tmp_path: Path, rows: Any, more: Any, words: str) -> None:
    handle, document = in_time(tmp_path / "job", rows, **more)
    spec = asked(**document)
    with pytest.raises(Invalid, match=words):
        Bench(spec.train, spec.model_dump(), handle)


@pytest.mark.slow
def test_texts_are_told_apart_by_their_words(tmp_path: Path) -> None:
    pages = {name: Path(work.__file__).parents[4] / "docs" / name for name in ("how-to", "why")}
    lines = [(line, name) for name, folder in pages.items() for page in sorted(folder.glob("*.md"))[:8]
             for line in page.read_text("utf-8").splitlines() if len(line) > 60]  # fmt: skip
    said, name = (np.array(part, object) for part in zip(*lines, strict=True))
    parts = {"train": np.arange(len(said)) % 5 > 0, "test": np.arange(len(said)) % 5 == 0}
    readers = {
        part: reader_of({"line": said[rows], "folder": name[rows]}, "folder", line="text")
        for part, rows in parts.items()
    }
    handle = FileHandle(tmp_path / "job", "auto", readers)
    train = {"data": "train", "target": "folder", "flavour": "sklearn", "features": ["line"], "facts": {"texts": True}}
    found = searched(handle, kind="text", target="folder", train=train, candidates=4)
    assert {line.name: line.state for line in found.leaderboard[:5] if line.name != "blend"} == dict.fromkeys(
        ("words", "bayes", "letters", "baseline"), "done"
    )
    assert found.leaderboard[-1].name == "baseline" and found.tested["metrics"]["roc_auc"] > 0.8
    fitted = Fitted.model_validate(found.kept.fitted)
    assert fitted.encoding.layout == "text" and found.kept.spec["facts"] == {"texts": True}


@pytest.mark.slow
def test_pictures_get_a_model_in_little_time(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    shade = draw.integers(0, 3, 1200)
    pictures = draw.integers(0, 120, (1200, 28, 28, 1)) + 40 * shade[:, None, None, None]
    parts = {"train": slice(0, 1000), "test": slice(1000, 1200)}
    readers = {
        part: reader_of({"picture": pictures[some].astype(np.uint8), "shade": shade[some].astype(str).astype(object)}, "shade")
        for part, some in parts.items()
    }  # fmt: skip
    train = {"data": "train", "target": "shade", "flavour": "torch"}
    handle = FileHandle(tmp_path / "job", "auto", readers)
    found = searched(handle, kind="image", target="shade", train=train, budget=5)
    chosen = next(line for line in found.leaderboard if line.number == found.chosen)
    assert chosen.family in ("forest", "network", "linear")  # the last on a machine that has the time for it, too
    assert found.tested["metrics"]["accuracy"] > 0.8


@pytest.mark.slow
def test_pictures_get_networks_and_trees(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = (digits.images * 15).astype(np.uint8)[..., None]
    rows = {"train": slice(0, 300), "test": slice(300, 400)}
    readers = {
        part: reader_of({"picture": pictures[some], "digit": digits.target[some].astype(str).astype(object)}, "digit")
        for part, some in rows.items()
    }
    handle = FileHandle(tmp_path / "job", "auto", readers)
    train = {"data": "train", "target": "digit", "flavour": "torch"}
    found = searched(
        handle,
        kind="image",
        target="digit",
        train=train,
        families=("network", "forest"),
        candidates=4,
        folds=2,
        budget=900,
    )
    assert found.metric == "accuracy" and found.leaderboard[0].score is not None and found.leaderboard[0].score > 0.8
    assert {line.name: line.state for line in found.leaderboard} == dict.fromkeys(
        ("network-short", "forest-few", "forest", "baseline"), "done"
    )
