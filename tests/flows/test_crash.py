"""What a user sees when something is killed: nothing but the time it takes."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import leptonai


class Slow(nn.Module):
    """A network that says which process trains it, and takes its time."""

    def __init__(self, pids: str):
        super().__init__()
        self.pids = pids
        self.net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            with Path(self.pids).open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.01)
        return self.net(x)


def table(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2))
    path = folder / "table.csv"
    path.write_text(
        "a,b,label\n" + "\n".join(f"{a:.6f},{b:.6f},{'yes' if a + b > 0 else 'no'}" for a, b in rows) + "\n"
    )
    return path


def trained(pids: Path, data: object) -> tuple[leptonai.Model, dict[str, list[float]]]:
    torch.manual_seed(3)
    model = leptonai.Model(Slow(str(pids)))
    model.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])
    history = model.fit(data, epochs=12, batch_size=20, seed=5)
    return model, history.history


def kill_when_it_works(pids: Path, lines: int, killed: list[int]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if pids.exists() and len(seen := pids.read_text().split()) > lines:
            os.kill(int(seen[-1]), signal.SIGKILL)
            killed.append(int(seen[-1]))
            return
        time.sleep(0.01)


def test_a_killed_fit_goes_on_and_ends_with_the_same_weights(home: Path, tmp_path: Path) -> None:
    data = leptonai.create_dataset("t", files=table(tmp_path))
    calm, calm_history = trained(tmp_path / "calm", data)

    killed: list[int] = []
    killer = threading.Thread(target=kill_when_it_works, args=(tmp_path / "killed", 45, killed))
    killer.start()
    hurt, hurt_history = trained(tmp_path / "killed", data)
    killer.join()

    assert killed
    assert len(set((tmp_path / "killed").read_text().split())) == 2, "another process took it up"
    assert hurt_history == calm_history
    for mine, theirs in zip(hurt.model.parameters(), calm.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_killed_server_comes_back_with_everything(home: Path, tmp_path: Path) -> None:
    import json

    data = leptonai.create_dataset("t", files=table(tmp_path))
    os.kill(json.loads((home / "server.json").read_text())["pid"], signal.SIGKILL)
    again = leptonai.get_dataset("t")
    assert again.digest == data.digest
    assert again.head(1)
    _, history = trained(tmp_path / "pids", again)
    assert len(history["loss"]) == 12
