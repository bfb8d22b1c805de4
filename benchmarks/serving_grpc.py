"""gRPC beside our own HTTP with raw tensors, and beside KServe's gRPC: one CNN, one image a request, one serving process each.

    PYTHONPATH=.:benchmarks .venv/bin/python benchmarks/serving_grpc.py

The load is `h2load` (nghttp2) for all, one request at a time on each connection; KServe is taken from the environment that
`scripts/bench serving` makes. The products are asked in turns, each round in another order; the medians of the rounds are compared.
Prints one JSON line: requests/s at 1, 16 and 64 connections, and ratios.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from tests.support import bundles
from tests.support.plane import Plane

from leptonai.core.signature import FeatureType, Signature, TensorSpec
from leptonai.serving.plane.grpc.messages import ModelInferRequest
from serving import cnn

ROUNDS, SECONDS = 3, "1500ms"
CONNECTIONS = (1, 16, 64)
METHOD = "/inference.GRPCInferenceService/ModelInfer"
KSERVE = Path(".venv-peers-serving-kserve/bin/python")


def request(image: np.ndarray) -> bytes:
    made = ModelInferRequest(model_name="cnn", raw_input_contents=[image.tobytes()])
    made.inputs.add(name="image", datatype="FP32", shape=image.shape)
    return made.SerializeToString()


def http_body(image: np.ndarray) -> tuple[bytes, int]:
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": list(image.shape),
        "parameters": {"binary_data_size": image.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + image.tobytes(), len(head)


def load(url: str, body: Path, connections: int, *options: str) -> float:
    """Return requests/s; every answer must be a 2xx (gRPC's errors are looked for before, by one right answer)."""
    command = [
        "h2load",
        "-D",
        SECONDS,
        "--warm-up-time",
        "300ms",
        "-c",
        str(connections),
        "-t",
        "1",
        "-m",
        "1",
        "-d",
        str(body),
    ]
    said = subprocess.run([*command, *options, url], capture_output=True, text=True, check=True).stdout
    done = re.search(r"([\d.]+) req/s", said)
    right = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", said)
    if done is None or right is None or int(right[1]) == 0:
        raise SystemExit(f"h2load failed: {said}")
    return float(done[1])


@contextmanager
def kserve(model: Path, folder: Path) -> Iterator[str]:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    variables = {
        "BENCH_MODEL": str(model),
        "BENCH_PORT": str(ports[0]),
        "BENCH_WORKERS": "1",
        "BENCH_GRPC_PORT": str(ports[1]),
    }
    with (folder / "kserve.log").open("wb") as log:
        process = subprocess.Popen(
            [KSERVE.absolute(), Path("benchmarks/serving/peers/kserve_service.py").absolute()],
            env={**os.environ, **variables}, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
        try:
            yield f"127.0.0.1:{ports[1]}"
        finally:
            process.terminate()
            process.wait()


def answers(address: str, message: bytes, seconds: float = 90.0) -> None:
    """Wait for one right answer."""
    until = time.monotonic() + seconds
    while True:
        with grpc.insecure_channel(address) as channel:
            try:
                if len(channel.unary_unary(METHOD)(message, timeout=5)) > 40:
                    return
            except grpc.RpcError as error:
                if time.monotonic() > until:
                    raise SystemExit(f"{address} does not answer: {error}") from None
                time.sleep(0.3)


def main() -> None:
    if shutil.which("h2load") is None or not KSERVE.exists():
        raise SystemExit("needs h2load (apt install nghttp2-client) and the peers of `scripts/bench serving`")
    folder = Path(tempfile.mkdtemp())
    cnn.export(cnn.network(), folder / "cnn.onnx")
    image = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    message, (body, size) = request(image), http_body(image)
    (folder / "grpc").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    (folder / "http").write_bytes(body)
    data = (folder / "cnn.onnx").read_bytes()
    signature = Signature(
        inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, 1, 28, 28), type=FeatureType.TENSOR),),
        outputs=(TensorSpec(name="scores", datatype="FP32", shape=(-1, 10)),),
        task="custom",
    )
    plane = Plane(folder, grpc=True)
    found: dict[str, dict[int, list[float]]] = {}
    try:
        plane.load((bundles.record("cnn", 1, signature, {"model.onnx": data}), {"model.onnx": data}))
        with kserve(folder / "cnn.onnx", folder) as theirs:
            for address in (plane.grpc_url, theirs):
                answers(address, message)
            headers = ("-H", "te: trailers", "-H", "content-type: application/grpc")
            binary = (
                "--h1",
                "-H",
                f"inference-header-content-length: {size}",
                "-H",
                "content-type: application/octet-stream",
            )
            ways = {
                "grpc": (f"http://{plane.grpc_url}{METHOD}", folder / "grpc", headers),
                "http_binary": (f"{plane.url}/v2/models/cnn/infer", folder / "http", binary),
                "kserve_grpc": (f"http://{theirs}{METHOD}", folder / "grpc", headers),
            }
            for number in range(ROUNDS):
                for connections in CONNECTIONS:
                    for name in list(ways)[number:] + list(ways)[:number]:
                        url, file, options = ways[name]
                        speed = load(url, file, connections, *options)
                        found.setdefault(name, {}).setdefault(connections, []).append(speed)
                        print(f"{name} at {connections}: {speed:.0f} requests/s", file=sys.stderr)
    finally:
        plane.close()
        shutil.rmtree(folder)
    middle = {name: {c: statistics.median(speeds) for c, speeds in each.items()} for name, each in found.items()}
    ratios = {
        f"grpc_c{c}_vs_{other}": round(middle["grpc"][c] / middle[other][c], 2)
        for other in ("kserve_grpc", "http_binary")
        for c in CONNECTIONS
    }
    speeds = {name: {f"c{c}": round(speed) for c, speed in each.items()} for name, each in middle.items()}
    print(json.dumps({"requests_per_second": speeds, **ratios}))


if __name__ == "__main__":
    main()
