"""The sum of 784 numbers as a service in plain Python, beside BentoML and LitServe: one serving process and one worker each.

What is measured is all that stands around the user's code. Prints one JSON line of ratios, from runs in turns; for each peer
its best way counts. Needs wrk, and the peers' environments (``scripts/bench serving`` makes them).

    python benchmarks/python_service.py [seconds a run] [rounds]
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).with_suffix("")
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402

from leptonai.agent.native_process import NativeProcess, bundle  # noqa: E402
from leptonai.agent.plane_process import PlaneProcess  # noqa: E402
from leptonai.agent.planes import listen  # noqa: E402
from leptonai.core import plugins, stages  # noqa: E402
from leptonai.core.nouns import Model  # noqa: E402
from leptonai.serving import arrays, frames  # noqa: E402
from leptonai.serving.predictor import Predictor, signature_of, work_of  # noqa: E402
from leptonai.serving.table import Line  # noqa: E402
from leptonai.serving.workers import ANSWER, KEY, connect, slot  # noqa: E402
from serving import load, process  # noqa: E402

ROWS = np.random.default_rng(0).normal(size=(64, 784)).astype(np.float32).round(4)
PEERS = {
    "bentoml": ("service_bentoml:Total", {}),
    "bentoml, batching": ("service_bentoml:Total", {"BENCH_BATCHING": "1"}),
    "litserve": ("service_litserve.py", {}),
    "litserve, batching": ("service_litserve.py", {"BENCH_BATCHING": "1"}),
}


class Total(Predictor):
    """The service."""

    inputs = {"row": ("float32", 784)}  # noqa: RUF012
    outputs = {"total": "float32"}  # noqa: RUF012

    def predict(self, batch: dict[str, Any]) -> Any:
        """Add up."""
        return batch["row"].sum(axis=1)


def model() -> tuple[Model, dict[str, bytes]]:
    """Return the service as a version."""
    about = {"python": list(sys.version_info[:2])}
    files = {"code": stages.load(stages.PACK)(Total, "the class"), "predictor.json": json.dumps(about).encode()}
    lineage = {KEY: work_of(Total).model_dump(mode="json")}
    made = Model.new(
        name="total", version=1, digest="0", framework="python", files=dict.fromkeys(files, "0"), bytes=1,
        signature=signature_of(Total), lineage=lineage, run="run_bench",
    )  # fmt: skip
    return made, {name: files[name] for name in bundle(made)}


@contextmanager
def ours(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve it here: yield where, and the folder of its worker."""
    made, files = model()
    executor = plugins.executor()
    pool = NativeProcess(executor, made, files, folder / "pool")
    (listening,) = listen(0, 1)
    plane = PlaneProcess(listening, folder / "plane.log")
    try:
        pool.start()
        plane.keys([])
        plane.load(made, {}, pool.path)
        plane.route([Line.one("total", made.id, True)])
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", slot(pool.path, 0)
    finally:
        plane.close()
        pool.close()
        executor.close()
        listening.close()


@contextmanager
def peer(name: str, folder: Path) -> Iterator[str]:
    """Serve it by a peer."""
    what, environment = PEERS[name]
    product, port = name.partition(",")[0], process.free_port()
    python = ROOT / f".venv-peers-serving-{product}" / "bin" / "python"
    command = [str(python), str(HERE / what)]
    if product == "bentoml":
        command = [
            str(python.parent / "bentoml"),
            "serve",
            what,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--working-dir",
            str(HERE),
        ]
    silent = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    server = process.Server(command, folder / f"{name}.log", {**silent, **environment, "BENCH_PORT": str(port)}, HERE)
    base = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 90
        while True:
            try:
                if load.post(base, asked("/predict"))[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
            if time.monotonic() > until or not server.runs:
                raise SystemExit(f"{name} does not start: {(folder / f'{name}.log').read_text()[-2000:]}")
        yield base
    finally:
        server.close()


def asked(path: str) -> load.Request:
    """Return one row a request, in JSON."""
    said = [json.dumps({"instances": [row.tolist()]}).encode() for row in ROWS]
    return load.Request(path, said, {"content-type": "application/json"})


def line_microseconds(worker: Path) -> dict[str, float]:
    """Return what a batch costs over the line to a worker, and called here."""
    made, found = Total(), {}
    for rows in (1, 64):
        batch = {"row": np.ascontiguousarray(ROWS[:rows])}
        header, parts = arrays.pack(batch)
        message = frames.quick({"op": "predict", "id": 1, **header}, parts)
        there, here = [], []
        with connect(worker / ANSWER) as line:
            for _ in range(1000):
                start = time.perf_counter()
                for piece in message:
                    line.sendall(piece)
                frames.receive(line)
                middle = time.perf_counter()
                made.predict(batch)
                here.append(time.perf_counter() - middle)
                there.append(middle - start)
        found[f"line_{rows}x784"] = round(median(there) * 1e6, 1)
        found[f"call_{rows}x784"] = round(median(here) * 1e6, 1)
    return found


def main() -> None:
    """Measure, and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    seen: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="leptonai-bench-") as temporary:
        folder = Path(temporary)
        with ours(folder) as (_, worker):
            microseconds = line_microseconds(worker)
        for name in [*PEERS, "ours"] * rounds:
            with ours(folder) if name == "ours" else peer(name, folder) as where:
                base, path = (where[0], "/v1/models/total:predict") if name == "ours" else (str(where), "/predict")
                load.run(base, asked(path), 8, 1)
                one, many = load.run(base, asked(path), 1, seconds), load.run(base, asked(path), 64, seconds)
                if one.failed or many.failed:
                    raise SystemExit(f"{name}: {one.failed + many.failed} requests failed")
                noted = seen.setdefault(name, {"p50": [], "rps": []})
                noted["p50"].append(one.p50_ms)
                noted["rps"].append(many.per_second)
    best = {name: (min(noted["p50"]), max(noted["rps"])) for name, noted in seen.items()}
    for name, (p50, rps) in best.items():
        print(f"{name:20} {p50:8.2f} ms at one connection {rps:8.0f} requests/s at 64", file=sys.stderr)
    p50, rps = best.pop("ours")
    print(json.dumps({
        "p50_c1_vs_best_peer": round(p50 / min(found[0] for found in best.values()), 3),
        "c64_vs_best_peer": round(rps / max(found[1] for found in best.values()), 2),
        "microseconds": microseconds,
        "cores": len(os.sched_getaffinity(0)),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
