"""leptonai as a user has it: the server of a home folder, its agent and planes, one service, a key that may call it."""

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import psutil
from serving.ours import SERVICE, Ours, Plane
from torch import nn

import leptonai
from leptonai.sdk import client
from robustness import heavy
from robustness.product import Product
from serving import cnn, load, process

TRAINED_ON = 1_280  # images: what it has learnt does not matter here
HEAVY = "heavy"
BROKEN = 3  # the version whose file is damaged


class Home(Ours):
    """A home folder with two good versions of the CNN, a broken third one, and a model that takes its time."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.heavy = folder / "heavy.onnx"

    def train(self) -> str:
        x, y, source = cnn.images(TRAINED_ON)
        npz = self.home.parent / "images.npz"
        np.savez(npz, image=x, label=y)
        few = self.home.parent / "few.npz"
        np.savez(few, image=x[:64], label=np.arange(64) % cnn.CLASSES)
        with self._server({}):
            model = _trained("images", npz, cnn.network())
            model.publish("cnn", verbose=0).deploy(SERVICE)
            model.publish("cnn", verbose=0)
            before = self._blobs()
            model.publish("cnn", verbose=0)
            for path in self._blobs() - before:
                path.chmod(0o600)
                path.write_bytes(path.read_bytes()[:-100])
            slow = _trained("few", few, heavy.network())
            slow.publish(HEAVY, verbose=0)
            made = client.current().http.call("POST", "/keys", json={"name": "bench", "scopes": ["service:predict"]})
            self.secret = made["secret"]
        assert isinstance(model.model, nn.Module)
        assert isinstance(slow.model, nn.Module)
        cnn.export(model.model, self.model)
        cnn.export(slow.model, self.heavy)
        return source

    def _blobs(self) -> set[Path]:
        return {path for path in (self.home / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 100_000}


def _trained(name: str, npz: Path, network: nn.Module) -> leptonai.Model:
    data = leptonai.create_dataset(name, files=npz, target="label", types={"label": "category"})
    model = leptonai.Model(network)
    model.compile(optimizer="adam", loss="cross_entropy")
    model.fit(data, epochs=1, batch_size=64, scale=False, verbose=0)
    return model


class Leptonai(Product):
    """Ourselves: one configuration, the default. `service`: the CNN, or the model that takes its time."""

    name, title = "ours", "leptonai"

    def __init__(self, us: Home, images: np.ndarray, service: str = SERVICE):
        self.us = us
        self._images = images
        self._service = service
        self._server: contextlib.ExitStack | None = None

    def start(self) -> float:
        start = time.perf_counter()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.us._server({}))
            if self._service != SERVICE:
                leptonai.get_model(f"models:/{self._service}/1").deploy(self._service)
            self._server = stack.pop_all()
        service = leptonai.get_service(self._service).wait_ready(60.0)
        self.base = service.url.partition("/services/")[0]
        plane: Plane = self.us._plane(self.base, self._service, self._images)
        self.good, self.binary = plane.json, plane.binary
        while self.works() is None:
            if time.perf_counter() - start > 60:
                raise process.NotStarted(str(load.post(self.base, self.good)))
            time.sleep(0.02)
        return time.perf_counter() - start

    def stop(self) -> None:
        if self._server is not None:
            if self._service != SERVICE:
                with contextlib.suppress(leptonai.LeptonError):
                    leptonai.get_service(self._service).delete()
            self._server.close()
            self._server = None

    @property
    def facts(self) -> dict[str, str]:
        """What the server says of itself: `url`, `token`, `pid`."""
        return json.loads((self.us.home / "server.json").read_text())

    @property
    def api(self) -> tuple[str, str]:
        """The address of the control server, and its key."""
        return self.facts["url"], self.facts["token"]

    @property
    def main(self) -> int:
        return int(self.facts["pid"])

    def tree(self) -> list[int]:
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.main)
            return [server.pid, *(child.pid for child in server.children(recursive=True))]
        return []

    def workers(self) -> list[int]:
        return self.us.pids()

    def watched(self) -> list[int]:
        return self.us.pids()  # what the server does beside them is not asked here

    def update(self, number: int) -> None:
        self.deploy(2 - number % 2)

    def deploy(self, version: int, seconds: float = 30.0) -> None:
        """Deploy a version of the model and wait until it answers every request. Raises `process.NotStarted`."""
        # Without a canary by steps: twenty of those would take minutes, and answer the same question.
        model = leptonai.get_model(f"models:/cnn/{version}").record.id
        client.current().http.call("POST", "/services", json={"name": SERVICE, "model": model, "strategy": "now"})
        until = time.perf_counter() + seconds
        answered: list[str | None] = []
        while time.perf_counter() < until:
            answered = [load.post(self.base, self.good)[1].get("x-leptonai-version") for _ in range(4)]
            if set(answered) == {str(version)}:
                return
            time.sleep(0.02)
        raise process.NotStarted(f"version {version} did not take over: {answered}")
