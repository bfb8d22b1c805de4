"""More services than fit into memory: what a call of one costs whose model is there, beside a server that has one service only.

Both servers run at once and take turns, so that a machine whose speed drifts slows both alike. One connection, one request after
the other. Of the 300 services, 90 take turns: each was called before, so that its model is in memory, as 100 may be. The bare runtime
does the same in the same turns: what it loses is the machine's, whose caches hold one model's weights and not those of 90.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnxruntime
from _host import calm

from leptonai.core.ids import new_id
from leptonai.core.nouns import Model, Service, ServiceStatus, Variant
from leptonai.core.states import ServiceState
from leptonai.server.context import open_context
from serving import bodies, load

SERVICES, RESIDENT, CALLED = 300, 100, 90
START_SECONDS = 180.0
WARM = 200  # calls before those that count


@dataclass(frozen=True)
class Found:
    """What was seen: medians in ms, of all calls and of each turn."""

    one: list[float]
    hits: list[float]
    bare_one: list[float]  # of the bare runtime
    bare_hits: list[float]
    first_ms: float  # of a call that waited for its model
    resident: int

    @property
    def ratio(self) -> float:
        """The median over turns of the two medians' ratio."""
        return statistics.median(hit / one for hit, one in zip(self.hits, self.one, strict=True))

    def figures(self) -> dict[str, float]:
        """Return what the results say of it."""
        return {
            "cache_one_service_p50_ms": statistics.median(self.one),
            "cache_hit_p50_ms": statistics.median(self.hits),
            "cache_bare_runtime_one_model_p50_ms": statistics.median(self.bare_one),
            "cache_bare_runtime_in_turns_p50_ms": statistics.median(self.bare_hits),
            "cache_loaded_for_the_call_p50_ms": self.first_ms,
            "cache_resident": self.resident,
        }


def measure(home: Path, model: Path, images: np.ndarray, seconds: float, folder: Path) -> Found:
    """Measure with the model "cnn" of a home folder, whose server does not run. `model`: the same as an ONNX file."""
    body = _request(home, images)
    bare = Bare(model, images)
    with _home(home, folder / "one", 1) as one, _home(home, folder / "many", SERVICES) as many:
        alone, several = Caller(one, body), Caller(many, body)
        first = sorted(
            several.call(number) for number in range(SERVICES - CALLED, SERVICES)
        )  # those that were not there, mostly
        for number in range(WARM):
            alone.call(0)
            several.call(SERVICES - 1 - number % CALLED)
        time.sleep(2.0)
        found = Found([], [], [], [], statistics.median(first[len(first) // 2 :]) * 1e3, several.resident())
        until = time.perf_counter() + max(2.0, 2 * seconds)
        while time.perf_counter() < until or len(found.one) < 5:
            calm()
            found.one.append(statistics.median(alone.call(0) for _ in range(CALLED * 2)) * 1e3)
            hits = [several.call(SERVICES - 1 - number % CALLED) for number in range(CALLED * 2)]
            found.hits.append(statistics.median(hits) * 1e3)
            found.bare_one.append(statistics.median(bare.run(0) for _ in range(CALLED * 2)) * 1e3)
            found.bare_hits.append(statistics.median(bare.run(n % CALLED) for n in range(CALLED * 2)) * 1e3)
        alone.close()
        several.close()
    return found


class Bare:
    """The runtime alone: as many sessions as take turns, each with weights of its own."""

    def __init__(self, model: Path, images: np.ndarray):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._sessions = [
            onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"]) for _ in range(CALLED)
        ]
        self._given = {"image": images[:1]}

    def run(self, number: int) -> float:
        """Compute one image by one of them; return the seconds."""
        start = time.perf_counter()
        self._sessions[number].run(None, self._given)
        return time.perf_counter() - start


class Caller:
    """One connection to a plane."""

    def __init__(self, server: Mapping[str, str], body: load.Request):
        self._server = server
        where = urlsplit(server["plane"])
        self._socket = socket.create_connection((where.hostname or "", where.port or 0), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bearer = {**body.headers, "Authorization": f"Bearer {server['token']}"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in bearer.items())
        self._requests = [
            f"POST /v2/models/cnn-{number}/{body.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}"
            f"Content-Length: {len(body.bodies[0])}\r\n\r\n".encode()
            + body.bodies[0]
            for number in range(SERVICES)
        ]

    def call(self, number: int) -> float:
        """Ask a service; return the seconds until its answer was there."""
        start = time.perf_counter()
        self._socket.sendall(self._requests[number])
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._more()
        head = got[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(got) < end + 4 + length:
            got += self._more()
        took = time.perf_counter() - start
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"service cnn-{number} answers {got[:300]!r}")
        return took

    def _more(self) -> bytes:
        got = self._socket.recv(1 << 16)
        if not got:
            raise RuntimeError("the plane hung up")
        return got

    def resident(self) -> int:
        """Return how many services' models are in memory."""
        bearer = {"Authorization": f"Bearer {self._server['token']}"}
        index = httpx.post(f"{self._server['plane']}/v2/repository/index", headers=bearer, trust_env=False).json()
        return sum(line["state"] == "READY" for line in index)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@contextlib.contextmanager
def _home(source: Path, home: Path, services: int) -> Iterator[dict[str, str]]:
    """Run a server on a copy of a home folder in which so many versions, alike, answer as so many services."""
    shutil.copytree(source, home, ignore=shutil.ignore_patterns("server.json", "jobs", "*.sock"))
    names = _fill(home, services)
    (home / "server.json").unlink(missing_ok=True)
    settings = {"LEPTONAI_MODELS_RESIDENT": str(RESIDENT), "LEPTONAI_RACE_SECONDS": "0", "LEPTONAI_WARM": "none"}
    with (home / "server.out").open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "leptonai.server", "--home", str(home), "--port", "0"],
            env={**os.environ, **settings}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        yield _ready(home, server, names)
    finally:
        server.terminate()
        server.wait(20)


def _request(home: Path, images: np.ndarray) -> load.Request:
    context = open_context(home, None, None, 30.0)
    try:
        (model,) = context.catalog.find(Model, {"name": "cnn"}, limit=1)
    finally:
        context.close()
    (tensor,) = model.signature.inputs
    given = images.astype({"FP32": np.float32, "FP64": np.float64, "UINT8": np.uint8}[tensor.datatype])
    return bodies.v2("infer", tensor.name, given.reshape(-1, *tensor.shape[1:]), tensor.datatype)


def _fill(home: Path, services: int) -> Sequence[str]:
    context = open_context(home, None, None, 30.0)
    try:
        for old in context.catalog.find(Service, limit=1000):
            context.catalog.change(drop=(old,))
        (model,) = context.catalog.find(Model, {"name": "cnn"}, limit=1)
        for number in range(services):
            made = model.model_copy(update={"id": new_id("model"), "name": f"cnn-{number}", "version": 1, "rev": 0})
            status = ServiceStatus(state=ServiceState.READY, rev=1, live=(made.id,))
            service = Service.new(name=f"cnn-{number}", variants=(Variant(model=made.id),), status=status)
            context.catalog.add(made, service)
    finally:
        context.close()
    return [f"cnn-{number}" for number in range(services)]


def _ready(home: Path, server: "subprocess.Popen[bytes]", names: Sequence[str]) -> dict[str, str]:
    """Return the address of the plane and a token, when it answers for all services."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
            facts = json.loads((home / "server.json").read_text())
            bearer = {"Authorization": f"Bearer {facts['token']}"}
            site = httpx.get(f"{facts['url']}/api/v1/sites/home", headers=bearer, trust_env=False).json()
            found = {"plane": site["plane"], "token": facts["token"]}
            answers = httpx.get(f"{site['plane']}/v2/models/{names[-1]}/ready", headers=bearer, trust_env=False)
            if answers.status_code == 200:
                return found
        time.sleep(0.1)
    raise RuntimeError(
        f"the server with {len(names)} services does not answer: {(home / 'server.out').read_text()[-500:]}"
    )
