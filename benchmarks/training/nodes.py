"""The CNN on a Ray cluster of two nodes, with one processor each, beside bare torchrun, one core, and Ray Train alone."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _common import median_ratio
from _host import calm

from leptonai.sdk import client
from training.epochs import HERE, Other, Ours, malloc, prepare
from training.side_by_side import beside, speed

STARTS = 4  # of a Run, and of Ray Train alone, in turns; the first of each warms caches, and is not counted


def measure(data: dict[str, np.ndarray], folder: Path, epochs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the ratios, and what was measured."""
    folder.mkdir()
    rows = len(data["x"])
    with cluster(folder) as address:
        client.connect(home=folder / "home")
        try:
            prepare(data, folder)
            found = {
                name: beside(Ours(folder / f"beside_{name}", epochs, workers=2), other, epochs, batches=0)
                for name, other in others(folder, epochs).items()
            }
            starts = starts_of(folder, address)
        finally:
            client.disconnect()
    ratios = {f"ray_2_nodes_vs_{name}": one.ratio() for name, one in found.items()}
    ratios["ray_start_vs_ray_train"] = median_ratio(starts["ours"], starts["ray_train"])
    figures = {
        "nodes_beside": {name: one.spread() for name, one in found.items()},
        "nodes_samples_per_s": {"ours": speed(found["torchrun"].ours, rows)}
        | {name: speed(one.theirs, rows) for name, one in found.items()},
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


def others(folder: Path, epochs: int) -> dict[str, Other]:
    """Return who trains beside our two workers: as many by `torchrun`, and one alone."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    run = [*torchrun, "--master-addr", "127.0.0.1", "--master-port", "29577"]
    core = {**malloc(), "OMP_NUM_THREADS": "1"}
    asked = {
        "torchrun": [*run, str(HERE / "by_ddp.py"), str(folder)],
        "1_core": [str(HERE / "by_hand.py"), "turns", str(folder), "plain"],
    }
    return {name: Other(folder / name, words, epochs, core) for name, words in asked.items()}


def starts_of(folder: Path, address: str) -> dict[str, list[float]]:
    """Return the seconds from asking for a training until its first epoch may begin."""
    took: dict[str, list[float]] = {"ours": [], "ray_train": []}
    for turn in range(STARTS):
        for name in took:
            place = folder / f"{name}-{turn}"
            one = (
                Ours(place, 1, workers=2)
                if name == "ours"
                else Other(place, [str(HERE / "by_ddp.py"), str(folder)], 1, {"RAY_ADDRESS": address})
            )
            calm()
            began = time.perf_counter()
            with one:
                one.room.wait()
                took[name].append(time.perf_counter() - began)
                one.room.turn(0)
                one.join()
    return {name: times[1:] for name, times in took.items()}
