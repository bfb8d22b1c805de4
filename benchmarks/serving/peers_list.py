"""The other products: how each is started in its best documented configuration, and what it is asked."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _common import peer_python

from serving import bodies
from serving.load import Request

HERE = Path(__file__).parent / "peers"
SILENT = {  # none of them is to report home, and each has one model thread a process
    "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore",
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One way to run a product. The best of them is found in the run itself."""

    name: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """A product: `command` of the interpreter and the port; the requests it is asked; files it needs beforehand."""

    name: str
    title: str
    variants: tuple[Variant, ...]
    command: Callable[[str, int, Mapping[str, str]], list[str]]
    json: Callable[[np.ndarray], Request]
    binary: Callable[[np.ndarray], Request] | None = None
    prepare: Callable[[str, Path, Path], None] = lambda _python, _model, _folder: None
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str | None:
        """The interpreter it is installed for, see scripts/bench."""
        return peer_python(f"serving-{self.name}")

    def environment(self, variant: Variant, model: Path, port: int, folder: Path) -> dict[str, str]:
        """Return the variables of its process."""
        path = f"{Path(self.python or '').parent}:{os.environ['PATH']}"
        told = {"BENCH_MODEL": str(model), "BENCH_PORT": str(port), "BENCH_TEMPORARY": str(folder), "PATH": path}
        return {**SILENT, **told, "PYTHONPATH": str(HERE), **self.more, **variant.environment}


def _workers(*counts: int, **more: str) -> tuple[Variant, ...]:
    return tuple(Variant(f"{n} workers", {"BENCH_WORKERS": str(n), **more}) for n in counts)


def _named(suffix: str, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    return tuple(Variant(f"{v.name}, {suffix}", v.environment) for v in variants)


def _script(name: str) -> Callable[[str, int, Mapping[str, str]], list[str]]:
    return lambda python, _port, _environment: [python, str(HERE / name)]


def _bentoml(python: str, port: int, environment: Mapping[str, str]) -> list[str]:
    host = [] if environment.get("BENCH_QUICKSTART") else ["--host", "127.0.0.1"]
    return [
        str(Path(python).parent / "bentoml"), "serve", "bentoml_service:Cnn", *host, "--port", str(port),
        "--working-dir", str(HERE),
    ]  # fmt: skip


def _mlflow(python: str, port: int, environment: Mapping[str, str]) -> list[str]:
    served = str(Path(environment["BENCH_TEMPORARY"]) / "mlflow-model")
    return [
        str(Path(python).parent / "mlflow"), "models", "serve", "-m", served, "--host", "127.0.0.1", "--port", str(port),
        "--env-manager", "local", "--workers", environment["BENCH_WORKERS"],
    ]  # fmt: skip


def _mlflow_model(python: str, model: Path, folder: Path) -> None:
    if not (folder / "mlflow-model").exists():
        arguments = [python, str(HERE / "mlflow_model.py"), str(model), str(folder / "mlflow-model")]
        subprocess.run(arguments, check=True, capture_output=True, timeout=120, env={**os.environ, **SILENT})


def _instances(path: str) -> Callable[[np.ndarray], Request]:
    return lambda images: bodies.wrapped(path, images, "instances")


PEERS = (
    Peer("fastapi", "FastAPI + ONNX Runtime, by hand", _workers(1, 2), _script("fastapi_service.py"), _instances("/predict"),
         lambda images: bodies.raw("/bytes", images)),
    Peer("bentoml", "BentoML", (*_workers(1, 2), *_named("batching", _workers(1, 2, BENCH_BATCHING="1"))), _bentoml,
         _instances("/predict")),
    Peer("litserve", "LitServe", (*_workers(1, 2), *_named("batching", _workers(1, 2, BENCH_BATCHING="1")),
                                  *_named("fast queue", _workers(1, 2, BENCH_FAST_QUEUE="1"))),
         _script("litserve_service.py"), _instances("/predict")),
    Peer("mlserver", "MLServer", (*_workers(0, 1), *_named("batching", _workers(0, 1, BENCH_BATCHING="1"))),
         _script("mlserver_service.py"), lambda images: bodies.v2("/v2/models/cnn/infer", "image", images),
         lambda images: bodies.v2_binary("/v2/models/cnn/infer", "image", "scores", images)),
    Peer("kserve", "KServe model server", _workers(1, 2), _script("kserve_service.py"), _instances("/v1/models/cnn:predict"),
         lambda images: bodies.v2_binary("/v2/models/cnn/infer", "image", "scores", images)),
    Peer("mlflow", "MLflow models serve", _workers(1, 2), _mlflow,
         lambda images: bodies.wrapped("/invocations", images, "inputs", nested=True), prepare=_mlflow_model),
    Peer("ray", "Ray Serve", _workers(1, 2), _script("ray_service.py"), _instances("/"),
         more={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}),
)  # fmt: skip
