"""One training in several processes, as a person asks for it; and what happens when one of them is killed, fails or is cancelled."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tests.support.warm import libraries
from torch import nn
from typer.testing import CliRunner

import leptonai
from leptonai.cli.main import app
from leptonai.core.errors import Invalid, RunCancelled, RunFailed
from leptonai.sdk import client
from leptonai.sdk.client import Client
from leptonai.sdk.runs import Run


class Slow(nn.Module):
    """Takes its time, so that a test can come between; `wrong` fails on rows that only one process has."""

    def __init__(self, seconds: float = 0.0, wrong: bool = False):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
        self.seconds, self.wrong = seconds, wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            time.sleep(self.seconds)
            if self.wrong and bool((x[:, 0] > 8).any()):
                raise ValueError("this row is too large")
        found: torch.Tensor = self.layers(x)
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with two datasets, that lives as long as this file's tests."""
    libraries()
    folder = tmp_path_factory.mktemp("workers")
    rng = np.random.default_rng(0)
    rows = [f"{a:.4f},{b:.4f},{'in' if a + b > 0.5 else 'out'}" for a, b in rng.normal(size=(203, 2))]
    (folder / "points.csv").write_text("a,b,label\n" + "\n".join(rows) + "\n")
    (folder / "odd.csv").write_text("a,b,label\n" + "\n".join([*rows, "99,0,in"]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTONAI_WARM", "none")
        kept = client.connect(home=folder / "home")
        for name in ("points", "odd"):
            leptonai.create_dataset(name, files=folder / f"{name}.csv", target="label")
    leptonai.Model(nn.Linear(2, 2)).fit("points")  # the process that holds its libraries stays for all tests
    yield kept
    client.disconnect()


def made(seconds: float = 0.0, wrong: bool = False) -> leptonai.Model:
    torch.manual_seed(0)
    model = leptonai.Model(Slow(seconds, wrong))
    model.compile(optimizer="adam", metrics=["accuracy", "f1"])
    return model


def processes(home: Path, run: Run) -> list[psutil.Process]:
    """Return the processes of a Run, the first one first."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).name.startswith(run.id) and Path(process.cwd()).parent == home / "jobs":
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    pids = {process.pid for process in found}
    return sorted(found, key=lambda process: process.ppid() in pids)


def begun(server: Client, model: leptonai.Model, workers: int, **asked: object) -> Run:
    """Start a training and return when it has left a checkpoint."""
    packed = model._framework.pack(model.model, model._compiled)  # type: ignore[union-attr]
    spec = {
        "data": "points", "framework": "torch", "code": server.http.upload(packed.code), "epochs": 4, "batch_size": 16,
        "checkpoint_seconds": 0.05, "workers": workers, **asked,
    }  # fmt: skip
    run = leptonai.get_run(server.http.call("POST", "/runs", json={"stage": "train", "spec": spec})["id"])
    until = time.monotonic() + 60
    while not (found := leptonai.get_run(run.id)).record.checkpoint and not found.record.state.ended:
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def weights(server: Client, run: Run) -> bytes:
    return server.http.download((run.wait().record.result or {})["weights"])


def test_two_processes_learn_what_one_learns(server: Client) -> None:
    found = {}
    for workers in (1, 2):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        model = leptonai.Model(net)
        model.compile(optimizer="adam", metrics=["accuracy", "f1"])
        history = model.fit("points", epochs=3, batch_size=30, validation_data="points", workers=workers, clip_norm=0.5)
        found[workers] = (history.history, torch.cat([p.detach().flatten() for p in net.parameters()]))
        assert history.run.record.workers == workers
    assert torch.allclose(found[1][1], found[2][1], atol=1e-5)
    for name, values in found[1][0].items():
        assert np.allclose(values, found[2][0][name], atol=1e-4), name


def test_the_command_line_and_http_say_it_too(server: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = made()._framework.pack(made().model, {})  # type: ignore[union-attr]
    spec = {"data": "points", "framework": "torch", "code": server.http.upload(packed.code)}
    run = server.http.call("POST", "/runs", json={"stage": "train", "spec": {**spec, "workers": 2}})
    assert leptonai.get_run(run["id"]).wait().record.workers == 2
    asked = CliRunner().invoke(
        app, ["run", "create", "train", "--data", "points", "--workers", "2", "--dry-run", "-o", "json"]
    )
    assert json.loads(asked.stdout)["body"]["spec"]["workers"] == 2


def test_what_cannot_be_done_is_told_before_a_run(server: Client) -> None:
    with pytest.raises(Invalid, match="workers: a model of sklearn learns in one process; models of torch can"):
        leptonai.Model(LogisticRegression()).fit("points", workers=2)
    with pytest.raises(Invalid, match="batch_size is parted among the workers: use at least 4"):
        made().fit("points", workers=2, batch_size=3)
    with pytest.raises((Invalid, RunFailed), match=r"workers=900: this machine has .* cores"):
        made().fit("points", workers=900, batch_size=4000)
    with pytest.raises(Invalid, match=r"train\.workers: leave workers out"):
        made().tune({"batch_size": (8, 9)}, data="points", validation_data="points", workers=2)


def test_a_killed_process_is_started_again_and_the_result_has_the_same_bits(server: Client) -> None:
    whole = weights(server, begun(server, made(0.02), 2))
    run = begun(server, made(0.02), 2)
    for attempt, victim in ((2, 1), (3, 0)):
        os.kill(processes(server.home, run)[victim].pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while (now := leptonai.get_run(run.id).record).attempt < attempt or len(processes(server.home, run)) < 2:
            assert time.monotonic() < until and not now.state.ended
            time.sleep(0.02)
    assert weights(server, run) == whole
    said = "\n".join(leptonai.get_run(run.id).logs())
    assert "goes on from epoch" in said
    assert not processes(server.home, run)


def test_a_cancelled_one_leaves_no_process(server: Client) -> None:
    run = begun(server, made(0.1), 2)
    assert len(processes(server.home, run)) == 2
    run.cancel()
    with pytest.raises(RunCancelled):
        leptonai.get_run(run.id).wait()
    assert not processes(server.home, run)


def test_what_fails_in_one_process_is_told_once(server: Client) -> None:
    with pytest.raises(
        (Invalid, RunFailed), match=r"the model failed in epoch 1, .*ValueError: this row is too large"
    ) as told:
        made(wrong=True).fit("odd", workers=2, batch_size=16)
    assert "worker" not in str(told.value)
    last = leptonai.list_runs()[0].record
    assert (last.state, last.attempt) == ("failed", 1)
