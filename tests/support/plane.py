"""A real serving plane for tests: started and told what an agent would tell it."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from tests.support.bundles import Bundle, adder

from leptonai.agent.plane_process import PlaneProcess
from leptonai.agent.planes import listen
from leptonai.serving.plane.keys import Keys
from leptonai.serving.plane.metrics import Series
from leptonai.serving.plane.recent import Watch
from leptonai.serving.plane.router import Route
from leptonai.serving.plane.waiting import Absent
from leptonai.serving.plane.writer import Writer
from leptonai.serving.served import Served, told
from leptonai.serving.table import COLD, Line


def route(variant: str = "stable") -> Route:
    """Return a route of a model that is not in memory, where only what it is called matters."""
    model = Served.of(told(adder(1)[0]))
    writer = Writer("s", "1", model.signature)
    return Route("s", Absent(model, "s", COLD), Series(), writer, b"", True, Watch(Keys()).tap("s"), variant)


class Plane:
    """A real plane process, told what an agent would tell it, and a client of it."""

    def __init__(self, folder: Path, *, grpc: bool = False):
        self.log = folder / "plane.log"
        (self.socket,) = listen(0, 1)
        (self.grpc,) = listen(0, 1) if grpc else (None,)
        self.process = PlaneProcess(self.socket, self.log, grpc=self.grpc)
        self.grpc_url = "" if self.grpc is None else f"127.0.0.1:{self.grpc.getsockname()[1]}"
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        # Its services are public; the client has a key, so that it is told what there is not.
        self.process.keys([[sha256(b"test").hexdigest(), "test", ["*"], None]])
        headers = {"authorization": "Bearer test"}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)
        self.table: dict[str, str] = {}

    def load(self, *bundles: Bundle, **services: Bundle) -> None:
        for model, files in (*bundles, *services.values()):
            self.process.load(model, files)
        self.table |= {model.name: model.id for model, _ in bundles} | {
            n: model.id for n, (model, _) in services.items()
        }
        self.process.route([Line.one(service, id, True) for service, id in self.table.items()])

    def rows(self, service: str, *rows: Any) -> httpx.Response:
        return self.client.post(f"/services/{service}/predict", json={"rows": list(rows)})

    def close(self) -> None:
        self.client.close()
        self.process.close()
        self.socket.close()
        if self.grpc is not None:
            self.grpc.close()
