"""The spine: what leptonai itself costs, beside Python, Ray, a cold process and a hand-written PyTorch loop."""

import gzip
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from _common import interleaved, median_ratio, peer_python, process_seconds, publish
from torch import nn

import leptonai
from leptonai.core import plugins
from leptonai.core.nouns import Run
from leptonai.sdk import client


@contextmanager
def fresh_home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="leptonai-bench-"))
    try:
        client.connect(home=folder)
        yield folder
    finally:
        client.disconnect()
        shutil.rmtree(folder, ignore_errors=True)


def import_cost() -> dict[str, float]:
    took = interleaved(
        15, python=lambda: process_seconds("-c", "pass"), ours=lambda: process_seconds("-c", "import leptonai")
    )
    over = [(a - b) * 1000 for a, b in zip(took["ours"], took["python"], strict=True)]
    return {"import_ms_over_python": statistics.median(over)}


RAY = """
import ray, time
start = time.perf_counter()
ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
print(time.perf_counter() - start)
ray.shutdown()
"""

OURS = """
import tempfile, time
from pathlib import Path
from leptonai.sdk import client
home = Path(tempfile.mkdtemp(prefix="leptonai-bench-"))
start = time.perf_counter()
client.connect(home=home).http.call("GET", "/me")
print(time.perf_counter() - start)
client.disconnect()
__import__("shutil").rmtree(home, ignore_errors=True)
"""


def printed_seconds(python: str, code: str) -> float:
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def start_cost() -> tuple[float | None, dict[str, float]]:
    ray_python = peer_python("spine")
    if ray_python is None:
        return None, {"embedded_start_s": statistics.median(printed_seconds(sys.executable, OURS) for _ in range(5))}
    printed_seconds(ray_python, RAY)  # the first one fills caches
    took = interleaved(
        5,
        ours=lambda: printed_seconds(sys.executable, OURS),
        ray=lambda: printed_seconds(ray_python, RAY),
    )
    return median_ratio(took["ours"], took["ray"]), {
        "embedded_start_s": statistics.median(took["ours"]),
        "ray_init_s": statistics.median(took["ray"]),
    }


class Stamps(nn.Module):
    """Notes the time when it comes to life in the Run's process: the first line of user code."""

    def __init__(self, path: str, width: int):
        super().__init__()
        self.path = path
        self.layer = nn.Linear(width, 1)

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        with Path(self.path).open("a") as file:
            file.write(f"{time.time()}\n")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def run_start_cost() -> tuple[float, dict[str, float]]:
    with fresh_home() as home:
        rng = np.random.default_rng(0)
        table = np.c_[rng.random((64, 4)), rng.random(64)]
        csv = home / "t.csv"
        csv.write_text("a,b,c,d,y\n" + "\n".join(",".join(f"{v:.5f}" for v in row) for row in table) + "\n")
        data = leptonai.create_dataset("t", files=csv)
        stamps = home / "stamps"
        starts = []
        model = leptonai.Model(Stamps(str(stamps), 4))
        model.compile(optimizer="sgd", loss="mse")
        for _ in range(21):
            before = stamps.read_text().count("\n") if stamps.exists() else 0
            start = time.time()
            model.fit(data, epochs=1, verbose=0)
            starts.append(float(stamps.read_text().split()[before]) - start)
        warm = starts[1:]  # the first one waits for the fork server's imports
    # Keras on PyTorch, as in the fork server: by itself it would load TensorFlow too, which takes longer still.
    cold = [process_seconds("-c", "import torch, keras", KERAS_BACKEND="torch") for _ in range(5)]
    return statistics.median(warm) / statistics.median(cold), {
        "run_start_ms": statistics.median(warm) * 1000,
        "cold_process_ms": statistics.median(cold) * 1000,
    }


def fashion(rows: int) -> tuple[np.ndarray, np.ndarray, str]:
    folder = Path("/usr/share/datasets/fashion-mnist")
    if folder.is_dir():
        x = np.frombuffer(gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
        y = np.frombuffer(gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
        return x.reshape(-1, 28, 28, 1)[:rows], y[:rows].astype("int64"), "Fashion-MNIST"
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = (digits.images * 15.9).astype("uint8")
    x = np.kron(small, np.ones((4, 4), "uint8"))[:, 2:-2, 2:-2, None]
    times = -(-rows // len(x))
    return np.tile(x, (times, 1, 1, 1))[:rows], np.tile(digits.target, times)[:rows], "digits, enlarged to 28 x 28"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


PLAIN = """
import sys, time, numpy as np, torch
from torch import nn
sys.path.insert(0, sys.argv[1])
from spine import network
data = np.load(sys.argv[2])
x = torch.from_numpy(data["x"]).permute(0, 3, 1, 2).float() / 255
y = torch.from_numpy(data["y"])
model, loss = network(), nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters())
start = time.perf_counter()
for epoch in range(2):
    order, total, right = torch.randperm(len(x)), 0.0, 0
    for at in range(0, len(x), 128):
        rows = order[at : at + 128]
        optimizer.zero_grad(set_to_none=True)
        scores = model(x[rows])
        value = loss(scores, y[rows])
        value.backward()
        optimizer.step()
        total += value.item() * len(rows)
        right += (scores.argmax(1) == y[rows]).sum().item()
print(time.perf_counter() - start)
"""


def fit_cost(rows: int = 12_800) -> tuple[float, dict[str, object]]:
    x, y, source = fashion(rows)
    with fresh_home() as home:
        path = home / "images.npz"
        np.savez(path, x=x, y=y)
        data = leptonai.create_dataset("images", files=path, target="y", types={"y": "category"})
        fixed: list[float] = []

        def ours() -> float:
            model = leptonai.Model(network())
            model.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])
            start = time.perf_counter()
            history = model.fit(data, epochs=2, batch_size=128, verbose=0)
            seconds = float(history.run.result["seconds"])
            fixed.append(time.perf_counter() - start - seconds)
            return seconds

        def plain() -> float:
            done = subprocess.run(
                [sys.executable, "-c", PLAIN, str(Path(__file__).parent), str(path)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            return float(done.stdout.strip().splitlines()[-1])

        ours()
        took = interleaved(5, ours=ours, plain=plain)
    return median_ratio(took["ours"], took["plain"]), {
        "fit_data": source,
        "fit_samples_per_s": 2 * rows / statistics.median(took["ours"]),
        "plain_samples_per_s": 2 * rows / statistics.median(took["plain"]),
        "fit_fixed_cost_s": statistics.median(fixed[1:]),
    }


def catalog_cost() -> tuple[float, dict[str, float]]:
    figures: dict[str, float] = {}
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="leptonai-bench-") as folder:
        took: dict[int, dict[str, list[float]]] = {}
        catalogs = {}
        ids = {}
        for count in (1_000, 100_000):
            catalog = catalogs[count] = plugins.catalog(f"sqlite:///{folder}/{count}.sqlite")
            runs = [
                Run.new(name=f"r{i}", stage="train", spec={"data": "datasets:/a@v1", "epochs": 5}) for i in range(count)
            ]
            for at in range(0, count, 5_000):
                catalog.add(*runs[at : at + 5_000])
            ids[count] = [run.id for run in runs[:: max(1, count // 200)]]
            took[count] = {"list": [], "get": [], "claim": []}
        for turn in range(100):
            for count, catalog in catalogs.items():
                for name, call in (
                    ("list", lambda: catalog.find(Run, {"state": "queued"}, limit=50)),  # noqa: B023
                    ("get", lambda: catalog.get(Run, ids[count][turn % len(ids[count])])),  # noqa: B023
                    ("claim", lambda: catalog.claim("home", "a", 3600, datetime.now(UTC), "t")),  # noqa: B023
                ):
                    start = time.perf_counter()
                    call()
                    took[count][name].append(time.perf_counter() - start)
        for name in ("list", "get", "claim"):
            small, large = (statistics.median(took[count][name]) for count in (1_000, 100_000))
            figures[f"catalog_{name}_ms_at_100k"] = large * 1000
            worst = max(worst, large / small)
        for catalog in catalogs.values():
            catalog.close()
    return worst, figures


def main() -> None:
    ratios: dict[str, float] = {}
    figures: dict[str, object] = {}
    for name, bench in (
        ("catalog_100k_vs_1k", catalog_cost),
        ("embedded_start_vs_ray_init", start_cost),
        ("run_start_vs_cold_process", run_start_cost),
        ("fit_vs_plain_loop", fit_cost),
    ):
        ratio, more = bench()
        print(f"{name}: {ratio} {more}", file=sys.stderr)
        if ratio is not None:
            ratios[name] = ratio
        figures |= more
    cost = import_cost()
    ratios |= cost
    figures |= cost
    publish("spine", ratios, figures, ("torch", "keras", "numpy", "sqlalchemy", "pysqlite3"))


if __name__ == "__main__":
    main()
