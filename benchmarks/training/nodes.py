"""The CNN on a Ray cluster of two nodes, with one processor each, beside bare torchrun, one core, and Ray Train alone."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _common import median, median_ratio
from _host import calm

import leptonai
from leptonai.sdk import client
from training import turns
from training.epochs import HERE, Other, Ours, Turn, in_turns, malloc, until
from training.parts import network

STARTS = 4  # of a Run, and of Ray Train alone, in turns; the first of each warms caches, and is not counted
ONE_CORE = {"OMP_NUM_THREADS": "1"}


def measure(data: dict[str, np.ndarray], folder: Path, epochs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the ratios, and what was measured."""
    folder.mkdir()
    np.savez(folder / "parts.npz", **data)
    path = folder / "images.npz"
    np.savez(path, x=data["x"], y=data["y"])
    rows = len(data["x"])
    with cluster(folder) as address:
        client.connect(home=folder / "home")
        try:
            leptonai.create_dataset("images", files=path, target="y", types={"y": "category"})
            took = epochs_of(data, folder, epochs)
            starts = starts_of(folder, address)
        finally:
            client.disconnect()
    ratios = {
        "ray_2_nodes_vs_torchrun": median_ratio(took["torchrun"], took["ours"]),
        "ray_2_nodes_vs_1_core": median_ratio(took["one_core"], took["ours"]),
        "ray_start_vs_ray_train": median_ratio(starts["ours"], starts["ray_train"]),
    }
    figures = {
        "nodes_samples_per_s": {name: round(rows / median(times)) for name, times in took.items()},
        "start_seconds": {name: [round(one, 1) for one in times] for name, times in starts.items()},
    }
    return ratios, figures


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Have a cluster, with a token, that the server's agent knows of."""
    before = dict(os.environ)
    os.environ |= {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
        "LEPTONAI_HOME": str(folder / "node"), **malloc(),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(HERE / "cluster.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        address = process.stdout.readline().strip() if process.stdout else ""
        os.environ["LEPTONAI_EXECUTOR"] = f"ray:{address}"
        yield address
    finally:
        process.communicate(timeout=60)
        os.environ.clear()
        os.environ |= before


class Start(Ours):
    """One epoch of ours, on the cluster."""

    def __init__(self, folder: Path):
        self.folder, self._epochs, self._more = folder, 1, {"workers": 2}
        self._turn = Turn(turns.Turns(str(folder)))
        self._model = leptonai.Model(network())
        self._model.compile("adam", "cross_entropy")


def epochs_of(data: dict[str, np.ndarray], folder: Path, epochs: int) -> dict[str, list[float]]:
    """Return the seconds of each epoch, in turns."""
    run = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        "29577",
    ]
    with ExitStack() as stack:
        who: dict[str, Any] = {
            "ours": stack.enter_context(Ours(data, folder, epochs, workers=2)),
            "torchrun": stack.enter_context(
                Other("torchrun", [*run, str(HERE / "by_ddp.py"), str(folder)], folder, epochs, {**malloc(), **ONE_CORE})
            ),
            "one_core": stack.enter_context(
                Other(
                    "one_core", [str(HERE / "by_hand.py"), "turns", str(folder), "plain"], folder, epochs,
                    {**malloc(), **ONE_CORE},
                )
            ),
        }  # fmt: skip
        return in_turns(who, epochs)


def starts_of(folder: Path, address: str) -> dict[str, list[float]]:
    """Return the seconds from asking for a training until its first epoch may begin."""
    took: dict[str, list[float]] = {"ours": [], "ray_train": []}
    for turn in range(STARTS):
        for name in took:
            place = folder / f"{name}-{turn}"
            place.mkdir()
            calm()
            began = time.perf_counter()
            one: Any = Start(place) if name == "ours" else _alone(folder, place, address)
            with one:
                assert until(lambda one=one: turns.ready(one.folder, 0), one)
                took[name].append(time.perf_counter() - began)
                turns.go(one.folder, 0)
                until(lambda one=one: not one.alive, one)
    return {name: times[1:] for name, times in took.items()}


def _alone(folder: Path, place: Path, address: str) -> Other:
    return Other("alone", [str(HERE / "by_ddp.py"), str(folder)], place, 1, {"RAY_ADDRESS": address})
