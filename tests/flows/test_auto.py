"""A model without code through Python, the command line and HTTP: found, published and asked."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.cancer import dataset
from tests.support.ratings import planted as planted_ratings
from tests.support.series import planted, times
from typer.testing import CliRunner

import leptonai
from leptonai.cli.main import app
from leptonai.core.errors import Invalid, NotFound
from leptonai.sdk import client


@pytest.fixture
def cancer(home: Path, tmp_path: Path) -> leptonai.Dataset:
    return dataset(tmp_path)


def test_a_model_is_found_published_and_asked(cancer: leptonai.Dataset) -> None:
    found = leptonai.auto(cancer, budget=60, families=("linear", "lightgbm"), candidates=3, publish="tumour")
    board = found.leaderboard()
    assert [row["place"] for row in board] == [1, 2, 3] and board[-1]["candidate"] == "baseline"
    assert found.chosen.name == board[0]["candidate"] and found.tested["metrics"]["roc_auc"] > 0.9
    assert "no candidate has seen" in repr(found) and "lightgbm" in repr(found)
    version = leptonai.get_model("models:/tumour")
    assert (
        "model.onnx" in version.record.files and version.record.metrics["roc_auc"] == found.tested["metrics"]["roc_auc"]
    )
    assert found.predict(cancer).shape == (569, 2)
    assert found.run.leaderboard() == board == leptonai.get_auto(found.run.id).leaderboard()
    assert found.best_run.record.parent == found.run.id

    said = CliRunner().invoke(app, ["run", "show", found.run.id], env={"COLUMNS": "200"})
    assert said.exit_code == 0 and "lightgbm" in said.stdout and "cross-validated" in said.stdout
    as_json = CliRunner().invoke(app, ["run", "show", found.run.id, "-o", "json"])
    assert json.loads(as_json.stdout)["leaderboard"][0]["score"] == board[0]["score"]
    seen = CliRunner().invoke(app, ["run", "get", found.run.id])
    assert seen.exit_code == 0 and "baseline" in seen.stdout

    by_http = client.current().http.call("GET", f"/runs/{found.run.id}")
    assert [line["score"] for line in by_http["result"]["leaderboard"]] == [row["score"] for row in board]

    with pytest.raises(Invalid, match="at least 5 s"):
        leptonai.auto(cancer, budget="2s")
    with pytest.raises(Invalid, match="has no column 'nothing'"):
        leptonai.auto(cancer, target="nothing")
    with pytest.raises(Invalid, match="needs test, rows that are held out in the same way"):
        leptonai.auto(cancer, by="time", column="c0")
    with pytest.raises(NotFound):
        leptonai.auto("nowhere")


def test_a_training_with_a_budget_finds_its_model(cancer: leptonai.Dataset) -> None:
    line = [
        "run",
        "create",
        "train",
        "--data",
        "cancer",
        "--target",
        "diagnosis",
        "--budget",
        "30s",
        "--family",
        "linear",
    ]
    tried = CliRunner().invoke(app, [*line, "--dry-run", "-o", "json"])
    assert tried.exit_code == 0 and '"auto"' in tried.stdout
    said = CliRunner().invoke(app, [*line, "--publish", "tumour", "-o", "json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert [line["name"] for line in found["leaderboard"]] == ["linear", "baseline"] and found["tested"]["rows"] == 114
    assert leptonai.get_run(found["best_run"]).stage == "train"
    assert "model.onnx" in leptonai.get_model("models:/tumour").record.files
    wrong = CliRunner().invoke(app, [*line, "--epochs", "3"])
    assert wrong.exit_code == 2 and "--epochs is not for finding a model" in wrong.output


def test_ratings_are_found_published_and_asked(home: Path, tmp_path: Path) -> None:
    x, y = planted_ratings(users=40, items=25, rank=2, rows=900)
    lines = [f"{1000 + user:g},film {item:g},{stars:.3f}" for (user, item), stars in zip(x, y, strict=True)]
    (tmp_path / "stars.csv").write_text("\n".join(["user_id,film,stars", *lines]) + "\n")
    data = leptonai.create_dataset("stars", files=tmp_path / "stars.csv", target="stars", types={"film": "category"})
    found = leptonai.auto(data, budget=120, candidates=4, publish="stars")
    assert found.record.kind == "ratings" and found.chosen.family in ("factors", "blend")
    version = leptonai.get_model("models:/stars")
    assert "model.onnx" in version.record.files
    rows = [
        {"user_id": 1003, "film": "film 4"},
        {"user_id": 77, "film": "film 4"},
        {"user_id": 77, "film": "unheard of"},
    ]
    said = [row["prediction"] for row in version.deploy("stars").predict(rows)]
    assert said[2] == pytest.approx(np.mean(y), abs=0.2) and len({round(value, 3) for value in said}) == 3


def test_a_series_is_told_ahead_published_and_asked(home: Path, tmp_path: Path) -> None:
    y, when = planted(240, 24), times("2024-03-01", 240, "h")
    lines = [f"{moment},{value:.3f}" for moment, value in zip(when.astype("datetime64[s]"), y, strict=True)]
    (tmp_path / "load.csv").write_text("\n".join(["hour,load", *lines]) + "\n")
    leptonai.create_dataset("load", files=tmp_path / "load.csv", target="load")
    line = ["run", "create", "train", "--data", "load", "--budget", "120s", "--family", "smoothing", "--horizon", "24"]
    said = CliRunner().invoke(app, [*line, "--publish", "load", "-o", "json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert found["kind"] == "series" and found["tested"]["rows"] == 24 and "24 steps of 1 hour" in found["notes"][0]
    service = leptonai.get_model("models:/load").deploy("load")
    told = service.predict(
        [{"hour": "2024-03-11T00:00:00"}, {"hour": "2024-03-11T23:00:00"}, {"hour": "2024-03-12T00:00:00"}]
    )
    truth = planted(264, 24)
    assert [row["prediction"] for row in told[:2]] == pytest.approx([truth[240], truth[263]], abs=2)
    assert told[2]["prediction"] is None  # beyond what it can tell
    with pytest.raises(Invalid, match="a series is judged in time"):
        leptonai.auto("load", by="rows")
    with pytest.raises(Invalid, match="horizon is of a series"):
        leptonai.auto("load", kind="table", horizon=3)
