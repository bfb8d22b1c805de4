"""A training on a Ray cluster of two nodes: one Run, which goes on when a worker or a node is lost."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from tests.support.ray_cluster import TwoNodes, two_nodes
from tests.support.warm import libraries
from torch import nn

import leptonai
from leptonai.sdk import client
from leptonai.sdk.client import Client
from leptonai.sdk.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip("ray")


class Slow(nn.Module):
    """Takes its time, so that a test can come between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            time.sleep(0.1)
        found: torch.Tensor = self.layers(x)
        return found


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    libraries()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TwoNodes]:
    with two_nodes(tmp_path / "node") as found:
        yield found


@pytest.fixture
def server(cluster: TwoNodes, tmp_path: Path) -> Iterator[Client]:  # it knows of the cluster
    rng = np.random.default_rng(0)
    rows = [f"{a:.4f},{b:.4f},{'in' if a + b > 0.5 else 'out'}" for a, b in rng.normal(size=(203, 2))]
    (tmp_path / "points.csv").write_text("a,b,label\n" + "\n".join(rows) + "\n")
    kept = client.connect(home=tmp_path / "home")
    leptonai.create_dataset("points", files=tmp_path / "points.csv", target="label")
    kept.http.call("GET", "/runs")
    yield kept
    client.disconnect()


def begun(server: Client) -> Run:
    torch.manual_seed(0)
    model = leptonai.Model(Slow())
    packed = model._framework.pack(model.model, {"metrics": ["accuracy"]})  # type: ignore[union-attr]
    spec = {
        "data": "points", "framework": "torch", "code": server.http.upload(packed.code), "epochs": 6, "batch_size": 16,
        "checkpoint_seconds": 0.2, "workers": 2,
    }  # fmt: skip
    return leptonai.get_run(server.http.call("POST", "/runs", json={"stage": "train", "spec": spec})["id"])


def saved(run: Run) -> Run:
    return until(lambda: (found := leptonai.get_run(run.id)).record.checkpoint and found)


def until(happened: Callable[[], object], seconds: float = 240) -> Run:
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found  # type: ignore[return-value]


def weights(server: Client, run: Run) -> bytes:
    return server.http.download((run.wait().record.result or {})["weights"])


def workers() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "TrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_a_run_on_two_nodes_goes_on_when_a_worker_or_a_node_is_lost(server: Client, cluster: TwoNodes) -> None:
    whole = begun(server)
    bits = weights(server, whole)
    done = leptonai.get_run(whole.id)
    assert done.record.attempt == 1
    assert any(line.startswith("epoch 6/6: loss") for line in done.logs())
    assert not any("HTTP Request" in line for line in done.logs())

    killed = saved(begun(server))
    workers()[0].kill()
    assert weights(server, killed) == bits
    assert leptonai.get_run(killed.id).record.attempt == 2

    lost = saved(begun(server))
    cluster.lose()
    assert weights(server, lost) == bits
    assert leptonai.get_run(lost.id).record.attempt >= 2
    assert any("goes on from epoch" in line for line in leptonai.get_run(lost.id).logs())

    cancelled = saved(begun(server))
    cancelled.cancel()
    until(lambda: leptonai.get_run(cancelled.id).record.state == "cancelled")
    until(lambda: not workers())
