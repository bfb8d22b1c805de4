"""A study through Python, the command line and HTTP: the best model is there to be measured and published at once."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier
from tests.support.cancer import dataset
from typer.testing import CliRunner

import leptonai
from leptonai.cli.main import app
from leptonai.core.errors import Invalid

SPACE = {"max_depth": (1, 12), "min_samples_leaf": (1, 100, "log"), "criterion": ["gini", "entropy"]}


@pytest.fixture
def cancer(home: Path, tmp_path: Path) -> leptonai.Dataset:
    return dataset(tmp_path)


def test_the_best_model_is_measured_and_published_at_once(cancer: leptonai.Dataset, tmp_path: Path) -> None:
    model = leptonai.Model(DecisionTreeClassifier(random_state=0))
    found = model.tune(SPACE, data=cancer, goal="val_accuracy", budget=12)
    assert len(found.trials) == 12 and found.best_value == max(t.values[0] for t in found.trials) > 0.88
    assert model.model.get_params()["criterion"] == found.best_params["criterion"]
    assert model.model.get_depth() <= found.best_params["max_depth"]
    report = model.evaluate(cancer)
    assert report.accuracy > 0.88
    run = found.best_run
    assert (run.stage, run.record.parent, str(run.state)) == ("train", found.run.id, "succeeded")
    again = run.retry().wait().result["history"]  # the same model again, from its spec alone; measured on all rows
    assert {name: values for name, values in again.items() if name.startswith("val_")} == run.result["history"]
    assert again.keys() - run.result["history"].keys() == {"loss", "accuracy"}
    version = model.publish("tumour")
    assert version.record.run and version.record.lineage["run"] == run.id
    assert "criterion" in repr(found) and found.table()[0]["trial"] == 0
    assert model.predict(cancer).shape == (569, 2)

    more = leptonai.Model(DecisionTreeClassifier(random_state=0)).tune(
        SPACE, data=cancer, goal="val_accuracy", budget=3, start=found, first=[found.best_params]
    )
    assert more.trials[0].params == found.best_params and more.best_value >= found.best_value

    with pytest.raises(Invalid, match="it is empty"):
        model.tune({}, data=cancer)
    with pytest.raises(Invalid, match="low 9 is above high 2"):
        model.tune({"max_depth": (9, 2)}, data=cancer)
    with pytest.raises(Invalid, match="no setting of DecisionTreeClassifier 'depth'"):
        model.tune({"depth": (1, 2)}, data=cancer)
    with pytest.raises(Invalid, match="measures no 'val_auc'; measured are"):
        model.tune(SPACE, data=cancer, goal="val_auc", budget=2)

    with pytest.raises(Invalid, match="batch_size is varied, and it is also given as 16 for all trials"):
        model.tune({"batch_size": [16, 32]}, data=cancer, batch_size=16)
    with pytest.raises(
        Invalid,
        match=r"all \d trials failed; the last, with .*: callback tired failed in on_epoch_end: RuntimeError: no more",
    ):
        model.tune(SPACE, data=cancer, goal="val_accuracy", budget=20, callbacks=[tired])

    page = tmp_path / "study.html"
    call = [
        "run",
        "create",
        "tune",
        "--data",
        "cancer",
        "--space",
        "max_depth=2..6",
        "--space",
        "learning_rate=0.01..0.3:log",
    ]
    said = CliRunner().invoke(
        app, [*call, "--goal", "val_accuracy", "--budget", "3", "--html", str(page), "-o", "json"]
    )
    assert said.exit_code == 0, said.output
    answer = json.loads(said.stdout)
    assert len(answer["trials"]) == 3 and answer["best_run"].startswith("run_")
    assert "<svg" in page.read_text() and "<script" not in page.read_text()
    watched = CliRunner().invoke(app, ["run", "watch", answer["run"], "-o", "json"])
    assert watched.exit_code == 0 and json.loads(watched.stdout)["state"] == "succeeded"
    seen = CliRunner().invoke(app, ["run", "get", answer["run"]], env={"TERMINAL_WIDTH": "160"})
    assert seen.exit_code == 0 and "max_depth" in seen.stdout and "best" in seen.stdout


def tired(epoch: int, logs: dict) -> None:
    raise RuntimeError("no more")


def test_a_function_builds_the_models(cancer: leptonai.Dataset) -> None:
    import torch
    from torch import nn

    def build(params: dict) -> tuple:
        net = nn.Sequential(nn.Linear(6, params["width"]), nn.ReLU(), nn.Linear(params["width"], 2))
        if params["kind"] == "sgd":
            return net, {"optimizer": lambda p: torch.optim.SGD(p, lr=params["rate"], momentum=params["momentum"])}
        return net, {"optimizer": lambda p: torch.optim.Adam(p, lr=params["rate"])}

    model = leptonai.Model()
    found = model.tune(
        {
            "width": [4, 16],
            "rate": (1e-3, 1e-1, "log"),
            "kind": ["adam", "sgd"],
            "momentum": {"low": 0.0, "high": 0.9, "when": {"kind": "sgd"}},
            "batch_size": [32, 64],
        },
        data=cancer, goal=["val_loss", "parameters"], budget=8, build=build, epochs=3,
    )  # fmt: skip
    assert all(("momentum" in t.params) == (t.params["kind"] == "sgd") for t in found.trials)
    assert {int(t.values[1]) for t in found.front} <= {6 * 4 + 4 + 4 * 2 + 2, 6 * 16 + 16 + 16 * 2 + 2}
    assert model.model[0].out_features == found.best_params["width"]
    scores = model.predict(cancer)
    assert np.allclose(scores.sum(1), 1, atol=1e-5)
    for trial in found.front:
        assert found.run_of(trial.number).result["parameters"] == trial.values[1]
