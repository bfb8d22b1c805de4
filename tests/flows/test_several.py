"""Models of several targets and inputs, as a person asks for them: by keywords, by a command line, over HTTP; and what is refused."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tests.support.warm import keras_here, libraries
from torch import nn
from typer.testing import CliRunner

import leptonai
from leptonai.core.errors import Invalid, Unsupported
from leptonai.sdk import client
from leptonai.sdk.client import Client

TARGETS = ["pressure", "progress"]
CODE = """
from torch import nn

class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(9, 16), nn.ReLU())
        self.pressure, self.progress = nn.Linear(16, 2), nn.Linear(16, 1)

    def forward(self, x):
        found = self.body(x)
        return {"pressure": self.pressure(found), "progress": self.progress(found)}

model = TwoHeads()
metrics = ["accuracy", "mae"]
"""


class Both(nn.Module):
    """Takes two inputs: one number, and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 4), nn.Linear(8, 4)
        self.pressure, self.progress = nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, bmi: Any, rest: Any) -> Any:
        found = (self.first(bmi) + self.second(rest)).relu()
        return self.pressure(found), self.progress(found)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with real rows, that lives as long as this file's tests."""
    from sklearn.datasets import load_diabetes

    libraries()
    folder = tmp_path_factory.mktemp("several")
    found = load_diabetes(scaled=False)
    names = [*(name for name in found.feature_names if name != "bp"), *TARGETS]
    place = found.feature_names.index("bp")
    lines = [",".join(names)]
    for row, progress in zip(found.data.tolist(), found.target.tolist(), strict=True):
        pressure = "high" if row.pop(place) > 100 else "low"
        lines.append(",".join([*(f"{value:g}" for value in row), pressure, f"{progress / 100:g}"]))
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONAI_WARM", "none")
        kept = client.connect(home=folder / "home")
        leptonai.create_dataset("patients", files=folder / "patients.csv", target="progress")
    leptonai.Model(nn.Linear(10, 1)).fit("patients")  # the process that holds PyTorch stays for all tests
    yield kept
    client.disconnect()


def test_two_inputs_and_two_targets_from_the_fit_to_the_service(server: Client, tmp_path: Path) -> None:
    train, test = leptonai.get_dataset("patients").split(train_size=0.8)
    torch.manual_seed(0)
    model = leptonai.Model(Both())
    model.compile(loss={"progress": "huber"}, metrics=["accuracy", "mae"], loss_weights={"progress": 2})
    history = model.fit(train, target=TARGETS, validation_data=test, epochs=10, learning_rate=0.01)
    assert {"val_loss", "val_pressure_accuracy", "val_progress_mae", "progress_loss"} <= set(history.history)
    spec = history.run.record.spec
    assert spec["target"] == TARGETS
    assert spec["inputs"]["bmi"] == ["bmi"]  # the input that is called like a column has it, the other one the rest
    assert len(spec["inputs"]["rest"]) == 8
    assert spec["loss_weights"] == {"progress": 2}
    report = model.evaluate(test, resamples=50)
    assert report.task == "several"
    assert report.metrics["pressure_accuracy"] == report.targets["pressure"].accuracy > 0.6
    assert report.metrics["progress_mae"] == pytest.approx(history["val_progress_mae"][-1], rel=1e-4)
    assert report.targets["pressure"].curves["roc"]
    assert "target progress" in repr(report)
    assert "<h1>pressure</h1>" in report.html()
    assert "progress_mae" in report.card()
    assert report.to_dict()["targets"]["progress"]["metrics"]["mae"] == report.progress_mae
    said = model.predict(test)
    assert said["pressure"].shape == (report.rows, 2)
    version = model.publish("patients")
    assert version.note == ""
    assert [spec.name for spec in version.signature.outputs] == ["pressure", "pressure_probabilities", "progress"]
    assert version.metrics["progress_mae"] == report.progress_mae
    again = leptonai.get_run(
        server.http.call(
            "POST",
            "/runs",
            json={"stage": "evaluate", "spec": {"model": "models:/patients/1", "data": str(test.ref), "resamples": 0}},
        )["id"]
    ).wait()
    assert again.record.result["metrics"]["progress_mae"] == pytest.approx(report.progress_mae, rel=1e-4)
    service = version.deploy("patients", public=True)
    rows = [
        {"age": 50, "sex": 1, "bmi": bmi, "s1": 180, "s2": 110, "s3": 50, "s4": 4, "s5": 4.6, "s6": 90}
        for bmi in (20.0, 38.0)
    ]
    lean, stout = service.predict(rows)
    assert set(lean) == {"pressure", "pressure_probabilities", "progress"}
    assert set(lean["pressure_probabilities"]) == {"high", "low"}
    assert stout["progress"] > lean["progress"]
    service.delete()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_same_of_keras(server: Client) -> None:
    keras = keras_here()
    train, test = leptonai.get_dataset("patients").split(train_size=0.8)
    random.seed(0)
    bmi, rest = keras.Input((1,), name="bmi"), keras.Input((8,), name="rest")
    found = keras.layers.Dense(8, "relu")(keras.layers.Concatenate()([bmi, rest]))
    outputs = [keras.layers.Dense(2, "softmax", name="pressure")(found), keras.layers.Dense(1, name="progress")(found)]
    own = keras.Model([bmi, rest], outputs)
    own.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={"pressure": "sparse_categorical_crossentropy", "progress": "mse"},
        metrics={"pressure": ["accuracy"], "progress": ["mae"]},
    )
    model = leptonai.Model(own)
    with pytest.raises(Invalid, match="nothing is said of the model's input 'rest'"):
        model.fit(train, target=TARGETS, inputs={"bmi": ["bmi"]})
    history = model.fit(train, target=TARGETS, validation_data=test, epochs=10)
    assert len(history.run.record.spec["inputs"]["rest"]) == 8
    report = model.evaluate(test, resamples=50)
    assert report.metrics["progress_mae"] == pytest.approx(history["val_progress_mae"][-1], rel=1e-4)
    assert report.metrics["pressure_accuracy"] == pytest.approx(history["val_pressure_accuracy"][-1], rel=1e-4)
    version = model.publish("patients-keras")
    assert version.note == ""
    assert [spec.name for spec in version.signature.outputs] == ["pressure", "pressure_probabilities", "progress"]
    service = version.deploy("patients-keras", public=True)
    row = {"age": 50, "sex": 1, "bmi": 20.0, "s1": 180, "s2": 110, "s3": 50, "s4": 4, "s5": 4.6, "s6": 90}
    (said,) = service.predict([row])
    assert set(said) == {"pressure", "pressure_probabilities", "progress"}
    service.delete()


def test_the_same_by_command_line_and_http(server: Client, tmp_path: Path) -> None:
    from leptonai.cli.main import app

    (tmp_path / "model.py").write_text(CODE)
    words = ["run", "create", "train", "--data", "patients", "--code", str(tmp_path / "model.py"), "--epochs", "2"]
    words += ["--target", "pressure", "--target", "progress", "--loss-weight", "progress=0.5"]
    done = CliRunner().invoke(app, [*words, "-o", "json"])
    assert done.exit_code == 0, done.output
    run = leptonai.list_runs(stage="train")[0]
    assert run.record.spec["loss_weights"] == {"progress": 0.5}
    spec = {**run.record.spec, "seed": 3}
    made = server.http.call("POST", "/runs", json={"stage": "train", "spec": spec})
    fitted = leptonai.get_run(made["id"]).wait().record.result
    assert set(fitted["activations"]) == set(TARGETS)


def test_what_cannot_be_done_is_refused_before_a_run(server: Client) -> None:
    before = len(leptonai.list_runs())
    forest = leptonai.Model(LogisticRegression())
    with pytest.raises(
        Unsupported, match="target: a model of sklearn cannot have several targets; one of PyTorch or Keras can"
    ):
        forest.fit("patients", target=TARGETS)
    model = leptonai.Model(Both())
    with pytest.raises(Invalid, match="has no column 'weight'"):
        model.fit("patients", target=["pressure", "weight"])
    with pytest.raises(Invalid, match="'pressure' is named twice"):
        model.fit("patients", target=["pressure", "pressure"])
    with pytest.raises(Invalid, match="the model has no input 'image'; it has bmi, rest"):
        model.fit("patients", target=TARGETS, inputs={"image": ["bmi"], "rest": ["age"]})
    with pytest.raises(Invalid, match="nothing is said of the model's input 'rest'"):
        model.fit("patients", target=TARGETS, inputs={"bmi": ["bmi"]})
    with pytest.raises(Invalid, match="say which columns are in each, with inputs="):
        model.fit("patients", target=TARGETS, features=["age", "sex"])
    with pytest.raises(
        Unsupported, match="class_weights is for a model of one target, and this one has several targets"
    ):
        model.fit("patients", target=TARGETS, class_weights="balanced")
    model.compile(loss_weights={"other": 2})
    with pytest.raises(Invalid, match="loss_weights: 'other' is none of several targets"):
        model.fit("patients", target=TARGETS)
    with pytest.raises(Unsupported, match="target: a cross-validation takes a model of one target"):
        leptonai.Model(Both()).cross_validate("patients", target=TARGETS)
    assert len(leptonai.list_runs()) == before
