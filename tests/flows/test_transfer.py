"""Weights of one task for another, as a person asks for it: by a keyword, by a command line, over HTTP; and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tests.support.warm import libraries
from torch import nn
from typer.testing import CliRunner

import leptonai
from leptonai.core.errors import Invalid, NotFound
from leptonai.sdk import client
from leptonai.sdk.client import Client

FEW = 3  # of each class, to learn the second task from


def net(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, classes),
    )  # fmt: skip


def write(folder: Path, digits: Any, chosen: Any) -> None:
    from PIL import Image

    for number in np.flatnonzero(chosen):
        place = folder / f"d{digits.target[number]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15.9).astype("uint8")).save(place / f"{number:04}.png")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with seven kinds of digits that a model was trained on, and a few of the three others."""
    libraries()
    folder = tmp_path_factory.mktemp("transfer")
    digits = load_digits()
    late = digits.target >= 7
    order = np.random.default_rng(0).permutation(len(late))
    few = np.zeros(len(late), bool)
    for kind in (7, 8, 9):
        few[order[digits.target[order] == kind][:FEW]] = True
    write(folder / "many", digits, ~late & (np.arange(len(late)) % 2 == 0))
    write(folder / "few", digits, few)
    write(folder / "rest", digits, late & ~few)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONAI_WARM", "none")
        kept = client.connect(home=folder / "home")
        for name in ("many", "few", "rest"):
            leptonai.create_dataset(name, files=folder / name)
        model = leptonai.Model(net(7))
        model.fit("many", epochs=6, batch_size=16, learning_rate=0.003, seed=1)
        model.publish("digits", metrics={"loss": 0.0})
    yield kept
    client.disconnect()


def test_a_model_begins_with_the_weights_of_a_version_and_says_so(server: Client) -> None:
    torch.manual_seed(0)
    started = leptonai.Model(net(3))
    how: dict[str, Any] = {"epochs": 25, "batch_size": 3, "learning_rate": 0.005}
    history = started.fit("few", pretrained="models:/digits", freeze="all but head", unfreeze_after=5, **how)
    assert (
        started.evaluate("rest").metrics["accuracy"] > 0.6
    )  # a third by chance; what it gains is measured on real weights
    said = "\n".join(history.run.logs())
    assert "begins with 6 of the 8 weights of models:/digits/1; new are 8.weight, 8.bias" in said
    assert "3 of 4 layers are frozen" in said and "0 of 4 layers are frozen" in said
    version = started.publish("others")
    assert version.lineage["pretrained"]["model"] == "models:/digits/1"
    assert "Began with the weights of `models:/digits/1`" in version.download("card.md").decode()


def test_without_python_the_architecture_comes_along(server: Client, tmp_path: Path) -> None:
    spec = {
        "data": "few",
        "epochs": 10,
        "batch_size": 3,
        "pretrained": "models:/digits/1",
        "learning": {"freeze": "all but head"},
    }
    run = leptonai.get_run(server.http.call("POST", "/runs", json={"stage": "train", "spec": spec})["id"]).wait()
    result = run.record.result
    assert result["framework"] == "torch" and result["pretrained"]["new"] == ["8.weight", "8.bias"]
    assert len(result["encoding"]["classes"]) == 3
    again = run.retry().wait().record
    assert again.result["weights"] and again.spec["pretrained"]["model"] == "models:/digits/1"
    made = server.http.call("POST", "/runs", json={"stage": "export", "spec": {"run": run.id, "name": "by-http"}})
    leptonai.get_run(made["id"]).wait()
    version = leptonai.get_model("by-http")
    assert "model.onnx" in version.files and version.signature.classes == ("d7", "d8", "d9")

    weights = tmp_path / "digits.safetensors"
    version.download("weights.safetensors", to=weights)
    model = leptonai.Model(net(3))
    history = model.fit("few", pretrained=weights)
    found = history.run.record.result["pretrained"]
    assert (
        found["source"] == "digits.safetensors"
        and found["new"] == []
        and len(found["sha256"]["digits.safetensors"]) == 64
    )


def test_what_cannot_be_begun_with_is_refused_before_a_run(server: Client, tmp_path: Path) -> None:
    before = len(leptonai.list_runs())
    model = leptonai.Model(net(3))
    for name, data in (("weights.pth", b"PK\x03\x04"), ("weights.safetensors", b"\x80\x02}q\x00.........")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Invalid, match=rf"{name} is no safetensors file; formats such as \.pt, .* never read"):
            model.fit("few", pretrained=tmp_path / name)
    with pytest.raises(NotFound, match="there is no model nothing"):
        model.fit("few", pretrained="models:/nothing")
    with pytest.raises(Invalid, match="is neither a version such as"):
        model.fit("few", pretrained="no such/file here")
    with pytest.raises(
        Invalid, match="pretrained: a model of sklearn cannot begin with given weights; models of keras and torch can"
    ):
        leptonai.Model(LogisticRegression()).fit("few", pretrained="models:/digits")
    with pytest.raises(Invalid, match="freeze: a model of sklearn cannot do it; models of keras and torch can"):
        leptonai.Model(LogisticRegression()).fit("few", freeze="all but head")
    assert len(leptonai.list_runs()) == before
    with pytest.raises(
        Invalid, match=r"0\.weight has shape \(8, 1, 3, 3\) in the model and \(16, 1, 3, 3\) in models:/digits/1"
    ):
        leptonai.Model(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(288, 3))).fit(
            "few", pretrained="models:/digits"
        )


def test_a_command_line_says_the_same(server: Client) -> None:
    from leptonai.cli.main import app

    words = ["run", "create", "train", "--data", "few", "--pretrained", "models:/digits", "--learn", "freeze=all but head",
             "--learn", "layer_decay=0.5", "--epochs", "2", "-o", "json"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["result"]["pretrained"]["model"] == record["spec"]["pretrained"]["model"] == "models:/digits/1"
    assert record["spec"]["learning"]["freeze"] == ["all but head"]
