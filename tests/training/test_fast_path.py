"""The quicker way of computing is found at the start of a long training, remembered, and kept by what goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.handle import FileHandle
from tests.support.warm import libraries
from tests.training.test_work import Dies, asked, handle_for

from leptonai.core import plugins
from leptonai.training import checkpoint, fast_path
from leptonai.training.work import train


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    libraries()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Conv2d(8, 8, 3),
        nn.Flatten(),
        nn.Linear(128, 2),
    )


def pictures(folder: Path) -> FileHandle:
    rng = np.random.default_rng(0)
    table = {"image": rng.integers(0, 255, (96, 8, 8, 3)).astype(np.uint8), "y": (np.arange(96) % 2).astype(np.int64)}
    return handle_for(folder, table, "y", 64, y="category")


def test_a_long_training_races_once_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_path, "_LONG", 8)
    handle = pictures(tmp_path)
    spec = asked(handle, network(), batch_size=8, epochs=1)
    result = train(spec, handle)
    (said,) = (line for line in handle.lines if "against plain a batch is channels-last" in line)
    assert handle.cache is not None
    known = json.loads((handle.cache / "paths.json").read_text())
    assert list(known.values()) == [said.split(":")[0].removeprefix("computes ")]
    again = FileHandle(tmp_path / "again", datasets=handle.datasets)
    again.blobs, again.raw, again.cache = handle.blobs, handle.raw, handle.cache
    found = train(spec, again)
    assert any("was the quicker way for this model on this machine" in line for line in again.lines)
    assert handle.read(found["weights"]) == handle.read(result["weights"])


def test_a_race_leaves_no_trace(tmp_path: Path) -> None:
    framework = plugins.framework("torch")
    code = framework.pack(network(), {"optimizer": "adam"}).code
    x, y = np.random.default_rng(1).random((8, 3, 8, 8), np.float32), np.arange(8) % 2
    states = []
    for raced in (False, True):
        learner: Any = framework.load(code)
        learner.begin(x, y, "classification", 2, 3)
        if raced:
            learner.step(x, y)
            learner.metrics()
            learner.restore(states[0])
            assert set(learner.time_paths(x, y)) == {"plain", "channels-last"}
        states.append(learner.state())
        assert not [p for p in learner.model.parameters() if p.grad is not None]
    assert states[0] == states[1]


def test_a_training_that_dies_goes_on_with_its_way_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leptonai.training.loop._PROGRESS_SECONDS", 0)
    monkeypatch.setattr(fast_path, "choose", lambda *_: "channels-last")
    whole = pictures(tmp_path)
    spec = asked(
        whole,
        network(),
        {"optimizer": "adam"},
        batch_size=8,
        epochs=2,
        checkpoint_seconds=1e-9,
        learning={"ema": 0.8, "accumulate": 2},
    )
    wanted = whole.read(train(spec, whole)["weights"])
    for after in (5, 13):
        dies = Dies(tmp_path / str(after), datasets=whole.datasets, after=after)
        dies.blobs, dies.raw = whole.blobs, whole.raw
        with pytest.raises(ConnectionAbortedError):
            train(spec, dies)
        assert checkpoint.read(dies.restore() or {}).course.path == "channels-last"
        again = FileHandle(tmp_path / str(after), datasets=whole.datasets)
        again.blobs, again.raw = whole.blobs, whole.raw
        assert whole.read(train(spec, again)["weights"]) == wanted


def test_a_file_that_cannot_be_read_is_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / "paths.json"
    for text in ("{", "[1]", "\x00"):
        file.write_text(text)
        assert fast_path._read(file) == {}
    fast_path._write(file, {"a": "plain"})
    assert fast_path._read(file) == {"a": "plain"}
    assert [path.name for path in tmp_path.iterdir()] == ["paths.json"]
