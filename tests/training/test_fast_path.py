"""The quicker way of computing is found at the start of a long training, remembered, and kept by what goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.handle import FileHandle
from tests.training.test_work import Dies, asked, handle_for

from leptonai.core import plugins
from leptonai.training import checkpoint, fast_path
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


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
    ((path, gain, seconds),) = known.values()
    assert path == said.split(":")[0].removeprefix("computes ")
    assert gain >= 1 and seconds > 0
    again = FileHandle(tmp_path / "again", datasets=handle.datasets)
    again.blobs, again.raw, again.cache = handle.blobs, handle.raw, handle.cache
    found = train(spec, again)
    assert any("was the quickest way for this model on this machine" in line for line in again.lines)
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
            assert set(learner.time_paths(x, y, learner.paths)) <= set(learner.paths)
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


def test_a_training_that_is_too_short_for_a_race_takes_the_usual_way(tmp_path: Path) -> None:
    from torch import nn

    handle = pictures(tmp_path)
    framework = plugins.framework("torch")
    for module, x, wanted in (
        (network(), np.zeros((8, 3, 8, 8), np.float32), "channels-last"),
        (nn.Linear(4, 2), np.zeros((8, 4), np.float32), "plain"),
    ):
        learner: Any = framework.load(framework.pack(module, {"optimizer": "adam"}).code)
        learner.begin(x, np.arange(8) % 2, "classification", 2, 3)
        assert fast_path.choose(learner, x, x, 10, handle) == wanted
    assert not handle.lines


def test_a_file_that_cannot_be_read_is_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / "paths.json"
    for text in ("{", "[1]", "\x00", '{"a": "plain"}', '{"a": ["plain", "x", 1]}', '{"a": 1}'):
        file.write_text(text)
        assert fast_path._read(file) == {}
    found = fast_path.Found("plain", 1.0, 0.01)
    fast_path._write(file, {"a": found})
    assert fast_path._read(file) == {"a": found}
    assert [path.name for path in tmp_path.iterdir()] == ["paths.json"]


def test_what_is_compiled_is_tried_only_where_it_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[tuple[str, ...]] = []

    class Timed:
        paths = ("plain", "channels-last")
        path_key = "a model"

        def compiled_path(self, path: str) -> str:
            return f"{path} compiled"

        def time_paths(self, x: Any, y: Any, paths: tuple[str, ...]) -> dict[str, float]:
            asked_for.append(tuple(paths))
            quick = {"plain": 0.02, "channels-last": 0.01, "channels-last compiled": 0.005}
            return {path: quick[path] for path in paths}

    handle, x, learner = FileHandle(tmp_path), np.zeros((2, 3)), Timed()
    assert fast_path.choose(learner, x, x, 10, handle) == "plain"  # type: ignore[arg-type]
    assert not asked_for
    assert fast_path.choose(learner, x, x, 1_000, handle) == "channels-last"  # type: ignore[arg-type]
    assert fast_path.choose(learner, x, x, 10, handle) == "channels-last"  # type: ignore[arg-type]
    long = int(fast_path._COMPILED_SECONDS / 0.01)
    for _ in range(2):
        assert fast_path.choose(learner, x, x, long, handle) == "channels-last compiled"  # type: ignore[arg-type]
    assert asked_for == [("plain", "channels-last"), ("channels-last", "channels-last compiled")]
    assert "computes channels-last compiled: compiled a batch is 2.00x as quick" in handle.lines


def test_a_rounded_way_learns_the_same_or_is_left_out() -> None:
    import torch

    from leptonai.adapters.frameworks.torch_paths import alike

    exact = [torch.randn(40), torch.randn(3, 5)]
    assert alike(exact, [part.bfloat16() for part in exact])
    assert not alike(exact, [torch.randn(40), torch.randn(3, 5)])
    assert not alike(exact, [torch.zeros(40), torch.zeros(3, 5)])


def test_pooling_before_the_relu_changes_no_bit() -> None:
    import torch
    from torch import nn

    from leptonai.adapters.frameworks.torch_order import pool_first

    def parts() -> Any:
        torch.manual_seed(3)
        first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
        return nn.Sequential(first, nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))

    there, ours = parts(), parts()
    pool_first(ours)
    assert [type(part).__name__ for part in ours[0]] == ["Conv2d", "MaxPool2d", "ReLU"]
    assert list(ours.state_dict()) == list(there.state_dict())
    x = torch.randn(16, 1, 16, 16).round(decimals=1)  # many are the same
    grown = [model(x) for model in (there, ours)]
    assert torch.equal(*grown)
    for output in grown:
        output.square().sum().backward()
    for a, b in zip(there.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    watched = parts()
    watched[2].register_forward_hook(lambda *_: None)
    pool_first(watched)
    assert isinstance(watched[2], nn.ReLU)


def test_channels_last_holds_for_pictures_of_one_channel() -> None:
    import torch
    from torch import nn

    from leptonai.adapters.frameworks import torch_paths

    module = nn.Conv2d(1, 4, 3)
    for path, wanted in ((torch_paths.LAST, torch.channels_last), (torch_paths.PLAIN, torch.contiguous_format)):
        torch_paths.lay(module, path)
        for batch in (torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8, 1).permute(0, 3, 1, 2)):  # however it was gathered
            assert module(torch_paths.lie(batch, path)).is_contiguous(memory_format=wanted)
