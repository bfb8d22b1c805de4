"""A server in this process, with everything real around it: a port, SQLite, a folder of sealed blobs, a key file."""

import asyncio
import base64
import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from leptonai.core.nouns import Dataset, Model, Run, Service, Variant
from leptonai.core.signature import Signature
from leptonai.server.app import make_app
from leptonai.server.auth import make_key
from leptonai.server.context import open_context
from leptonai.server.listen import Server, configure, listen
from leptonai.server.routes.table import Route

API = "/api/v1"


class Place:
    """The server, and what tests ask of it."""

    def __init__(self, home: Path, routes: list[Route] | None = None, database: str | None = None):
        self.home = home
        self.context = open_context(home, database, None, 30.0)
        self._listener = listen("127.0.0.1", 0, None, None, insecure=False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=30.0)
        self._server = Server(configure(make_app(self.context, routes)))
        serve = self._server.serve(sockets=[self._listener])
        self._thread = threading.Thread(target=asyncio.run, args=(serve,), name="server")
        self._thread.start()
        while not self._server.started:
            time.sleep(0.002)

    def close(self) -> None:
        """Stop it."""
        self.client.close()
        self.context.wakes.close()
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()
        self.context.close()

    def key(self, *scopes: str, name: str = "somebody", expires: datetime | None = None, **fields: Any) -> str:
        """Make a key with these scopes; return its secret."""
        record, secret = make_key(self.context, name, scopes, "tests", expires=expires)
        self.context.catalog.add(record.model_copy(update=fields))
        return secret

    def ask(self, method: str, path: str, token: str | None = "local", **more: Any) -> Any:
        """Call the control API and return the answer."""
        token = {"local": self.context.local_token, "agent": self.context.agent_token}.get(token or "", token)
        headers = {**({"authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        return self.client.request(method, path if path == "/metrics" else API + path, headers=headers, **more)

    def upload(self, data: bytes, token: str = "local", path: str = "/blobs") -> str:
        """Upload bytes; return the blob."""
        answer = self.ask("POST", path, token, content=data, headers=digest(data))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["blob"])

    def submit(self, token: str = "local", data: bytes = b"a,label\n1,2\n", **more: Any) -> dict[str, Any]:
        """Ask for an import."""
        spec = {"name": "things", "files": [{"name": "a.csv", "size": len(data), "parts": [self.upload(data, token)]}]}
        answer = self.ask("POST", "/runs", token, json={"stage": "import", "spec": spec, **more})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def claim(self, wait: float = 0) -> dict[str, Any]:
        """Claim a Run as the agent of Site home."""
        answer = self.ask("POST", "/sites/home/claim", "agent", json={"agent": "a1", "wait_seconds": wait})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def digest(data: bytes) -> dict[str, str]:
    """Return the header that announces a body."""
    return {"content-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"}


def dataset(**fields: Any) -> Dataset:
    """Return a dataset record."""
    known = {"name": "things", "version": 1, "digest": "d", "rows": 1, "bytes": 1, "columns": (), "manifest": "a" * 64}
    return Dataset.new(**{**known, **fields})


def model(**fields: Any) -> Model:
    """Return a model record."""
    known = {
        "name": "m", "version": 1, "digest": "d", "framework": "torch", "files": {"model.onnx": "b" * 64}, "bytes": 1,
        "signature": Signature(inputs=(), outputs=(), task="regression"), "lineage": {}, "run": "run_x",
    }  # fmt: skip
    return Model.new(**{**known, **fields})


def service(of: Model, **fields: Any) -> Service:
    """Return a service record."""
    return Service.new(**{"name": "svc", "variants": (Variant(model=of.id),), **fields})


def run(**fields: Any) -> Run:
    """Return a Run record."""
    return Run.new(**{"stage": "train", "spec": {}, **fields})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Open a server of this test's own."""
    with contextlib.closing(Place(tmp_path / "home")) as made:
        yield made
