"""The load generator: wrk, one thread, a closed loop; and the requests it sends."""

import http.client
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from _host import undisturbed

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Request:
    """What is posted: a path, the bodies that take turns, and the headers of all of them."""

    path: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What one run of the load generator saw. `cpu`: seconds of processor time that wrk itself took."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu: float
    requests: int


def missing() -> str | None:
    """Return what to do about a load generator that is not there."""
    return None if shutil.which("wrk") else "wrk is needed, which makes the load: apt install wrk"


def run(base: str, request: Request, connections: int, seconds: float) -> Load:
    """Load a server for some seconds with so many connections, each with one request under way at any time; again where the
    host of the machine took its time meanwhile.
    """
    return undisturbed(lambda: _run(base, request, connections, seconds))


def _run(base: str, request: Request, connections: int, seconds: float) -> Load:
    with tempfile.TemporaryDirectory(prefix="leptonai-bench-") as folder:
        for index, body in enumerate(request.bodies):
            (Path(folder) / str(index)).write_bytes(body)
        headers = [f"{name}: {value}" for name, value in request.headers.items()]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(SCRIPT),
             base + request.path, "--", folder, str(len(request.bodies)), *headers],
            capture_output=True, text=True, timeout=seconds + 30, check=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return Load(
        per_second=(said["requests"] - said["status"]) / said["microseconds"] * 1e6,
        p50_ms=said["p50"] / 1000,
        p99_ms=said["p99"] / 1000,
        failed=said["status"] + said["broken"],
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        requests=said["requests"],
    )


def post(base: str, request: Request, index: int = 0, timeout: float = 10.0) -> tuple[int, Mapping[str, str], bytes]:
    """Send one request; return status, headers and body. Raises `OSError` where nobody answers."""
    where = urlsplit(base)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=timeout)
    try:
        connection.request("POST", request.path, request.bodies[index], dict(request.headers))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"the answer is no HTTP: {error!r}") from error
    finally:
        connection.close()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
