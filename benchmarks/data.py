"""Reading and importing data: leptonai, encrypted, beside Hugging Face datasets, Lance, LitData and plain Parquet, which are not.

Each reads the same rows in batches of 128 as tensors, through its own way to PyTorch, in a fresh process; they take turns, and
ratios are medians over the turns. A rate is rows a second from opening the loader on; imports are not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from _common import interleaved, median_ratio, peer_python, publish

import leptonai
from data import imports, learning, sets
from leptonai.data.spec import Import
from leptonai.sdk import client, runs
from leptonai.sdk.datasets import get_dataset
from leptonai.sdk.sources import sources
from leptonai.sdk.specs import sent
from leptonai.sdk.uploads import upload

HERE = Path(__file__).parent / "data"
PEERS = {"images": ("parquet", "datasets", "datasets_iter", "lance", "litdata"), "table": ("parquet", "datasets", "datasets_iter", "lance")}  # fmt: skip
NOT_READ = "LitData is left out of the table: it takes a quarter of an hour to prepare a million rows of twenty columns"


class Reading:
    """Rates of all who read, by kind, order and epoch."""

    def __init__(self, folder: Path, home: Path, python: str | None):
        self.folder, self.home, self.python = folder, home, python
        self.rates: dict[
            tuple[str, str, str], list[list[float]]
        ] = {}  # kind, order, who: a list of epochs for each turn

    def prepare(self) -> None:
        """Write the rows in the format of each peer, and import ours."""
        for kind in ("images", "table"):
            for peer in PEERS[kind] if self.python else ():
                if not peer.endswith("_iter"):
                    self._process(self.python or "", "peers.py", "prepare", peer, kind, "order", str(self.folder))
        x, y = np.load(self.folder / "x.npy"), np.load(self.folder / "y.npy")
        np.savez(self.folder / "images.npz", x=x, y=y)
        leptonai.create_dataset("images", files=self.folder / "images.npz", target="y", types={"y": "category"})
        table = np.load(self.folder / "table.npy")
        np.savez(self.folder / "table.npz", **{f"c{i:02}": table[:, i] for i in range(table.shape[1])})
        leptonai.create_dataset("table", files=self.folder / "table.npz", target="")

    def turn(self) -> None:
        """Have everybody read everything once."""
        for kind, peers in PEERS.items():
            for order in ("order", "shuffled"):
                self._add(kind, order, "ours", sys.executable, "ours.py", kind, order, str(self.home))
                for peer in peers if self.python else ():
                    self._add(
                        kind, order, peer, self.python or "", "peers.py", "read", peer, kind, order, str(self.folder)
                    )

    def _add(self, kind: str, order: str, who: str, *command: str) -> None:
        done = self._process(*command)
        if done is not None:
            self.rates.setdefault((kind, order, who), []).append(done)

    def _process(self, python: str, script: str, *arguments: str) -> list[float] | None:
        done = subprocess.run(
            [python, str(HERE / script), *arguments], capture_output=True, text=True, env=dict(os.environ), check=False
        )
        if done.returncode:
            print(f"data: {script} {' '.join(arguments)} failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return None
        with suppress(ValueError, IndexError):
            return [float(rate) for rate in json.loads(done.stdout.strip().splitlines()[-1])]
        return None

    def ratio(self, order: str, epoch: int, kinds: tuple[str, ...] = ("images", "table")) -> float | None:
        """Return ours beside the fastest peer, of the kind where we are slowest."""
        found = []
        for kind in kinds:
            ours = self.rates.get((kind, order, "ours"), [])
            theirs = [rates for (k, o, who), rates in self.rates.items() if (k, o) == (kind, order) and who != "ours"]
            best = max((rates for rates in theirs if rates), key=lambda rates: statistics.median(r[epoch] for r in rates), default=None)  # fmt: skip
            if ours and best:
                turns = min(len(ours), len(best))
                found.append(median_ratio([r[epoch] for r in ours[:turns]], [r[epoch] for r in best[:turns]]))
        return min(found) if found else None

    def figures(self) -> dict[str, object]:
        names = {("order", 0): "in order", ("shuffled", 0): "shuffled", ("shuffled", 1): "second epoch"}
        return {
            f"{kind} rows/s, {words}, {who}": round(statistics.median(r[epoch] for r in rates))
            for (kind, order, who), rates in self.rates.items()
            for (o, epoch), words in names.items()
            if o == order
        }


def train_cost(rounds: int) -> float:
    """Return the throughput on the store beside that on tensors in memory."""
    x, y, _ = sets.images()
    data, labels = learning.floats(x), learning.torch.from_numpy(y[: learning.ROWS])
    whole = get_dataset("images")
    part, _ = whole.split(learning.ROWS / whole.rows, stratify=False)
    batches = part.torch(learning.SIZE, shuffle=True)
    learner = learning.Learning()
    learner.memory(data, labels)
    learner.store(batches)
    took = interleaved(rounds, memory=lambda: learner.memory(data, labels), store=lambda: learner.store(batches))
    return median_ratio(took["memory"], took["store"])


def first_batch(folder: Path, rounds: int) -> tuple[float, dict[str, object]]:
    """Return the time to the first batch of 1,000 shards beside 10, in order and shuffled in windows of 8 shards."""
    made = {}
    for shards in (10, 1000):
        path = folder / f"shards{shards}.npz"
        rows = np.random.default_rng(0).normal(size=(shards * 100, 20))
        np.savez(path, **{f"c{i:02}": rows[:, i] for i in range(20)})
        via = client.current()
        spec = {"name": f"shards{shards}", "target": "", "shard_rows": 100, **upload(via.http, sources(path), "upload")}
        runs.follow(via.http, runs.submit(via.http, "import", sent(Import(**spec)), name="shards").id, title="import")
        made[shards] = get_dataset(f"shards{shards}")

    def seconds(shards: int, shuffle: bool) -> float:
        began = time.perf_counter()
        batches = iter(made[shards].torch(128, shuffle=shuffle, memory=3 * 100 * 8 * 20 * 4))
        next(batches)
        took = time.perf_counter() - began
        batches.close()  # type: ignore[attr-defined]
        return took

    found, figures = [], {}
    for shuffle in (False, True):
        took = interleaved(rounds, few=lambda: seconds(10, shuffle), many=lambda: seconds(1000, shuffle))  # noqa: B023
        found.append(median_ratio(took["many"], took["few"]))
        words = "shuffled" if shuffle else "in order"
        figures |= {f"first batch of {n} shards, {words}, ms": statistics.median(took[k]) * 1000 for n, k in ((10, "few"), (1000, "many"))}  # fmt: skip
    return max(found), figures


def import_costs(folder: Path, python: str, rounds: int, most: int) -> tuple[dict[str, float], dict[str, object]]:
    """Return what imports cost, and the figures behind it."""
    path = imports.csv(folder / "million.csv", 1_000_000, 20)
    imports.our_seconds(path, "warm")
    took = interleaved(rounds, ours=lambda: imports.our_seconds(path, "timed"), polars=lambda: imports.polars_seconds(python, path))  # fmt: skip
    path.unlink()
    counts = (most // 100, most // 10, most)
    seconds, peak = imports.grown(folder, counts)
    small, middle, large = (seconds[count] for count in counts)
    steps = ((middle - small) / (counts[1] - counts[0]), (large - middle) / (counts[2] - counts[1]))
    ratios = {
        "csv_import_vs_polars_parquet": median_ratio(took["ours"], took["polars"]),
        "import_10m_peak_gib": peak,
        "import_linearity": steps[1] / steps[0],  # seconds a row between 1e6 and 1e7, beside those between 1e5 and 1e6
    }
    figures = {f"import of {count:,} x 6, s": round(seconds[count], 2) for count in counts}
    figures |= {f"csv of 1,000,000 x 20, {who}, s": round(statistics.median(times), 2) for who, times in took.items()}
    return ratios, dict(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of those who read")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the largest import")
    parser.add_argument(
        "--only", default="read,train,first,import", help="parts to measure; not all: nothing is written"
    )
    given = parser.parse_args()
    parts = given.only.split(",")
    python = peer_python("data")
    ratios: dict[str, float] = {}
    figures: dict[str, object] = {}

    def note(name: str, ratio: float | None) -> None:
        print(f"data: {name} {ratio}", file=sys.stderr, flush=True)
        if ratio is not None:
            ratios[name] = ratio

    with tempfile.TemporaryDirectory(prefix="leptonai-bench-") as temp:
        folder, home = Path(temp), Path(temp) / "home"
        client.connect(home=home)
        try:
            if {"read", "train"} & set(parts):
                figures["images"] = sets.make(folder)
                reading = Reading(folder, home, python if "read" in parts else None)
                reading.prepare()
            if "read" in parts:
                for _ in range(given.rounds):
                    reading.turn()
                note("seq_read_vs_best_peer", reading.ratio("order", 0))
                note("shuffled_epoch_vs_best_peer", reading.ratio("shuffled", 0))
                note("second_epoch_vs_best_peer", reading.ratio("shuffled", 1))
                figures |= reading.figures() | {"note": NOT_READ}
            if "train" in parts:
                note("train_on_store_vs_in_memory", train_cost(given.rounds))
            if "first" in parts:
                ratio, more = first_batch(folder, 4 * given.rounds)
                note("first_batch_1000_vs_10_shards", ratio)
                figures |= more
            if "import" in parts:
                costs, more = import_costs(folder, python or sys.executable, given.rounds, given.rows)
                figures |= more
                for name, ratio in costs.items():
                    note(name, ratio)
        finally:
            client.disconnect()
    if set(parts) == {"read", "train", "first", "import"}:
        publish("data", ratios, figures, ("torch", "numpy", "pyarrow", "polars", "cryptography"))
    else:
        print(json.dumps({"ratios": ratios, "figures": figures}))


if __name__ == "__main__":
    main()
