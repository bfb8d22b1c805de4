"""leptonai as a user has it: a CNN trained, published and deployed through the SDK, called with a key of its own.

What the plane can do is asked of it (`GET /v2`, its settings), so that a key that cannot be measured yet is told, not guessed.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
from _host import calm
from torch import nn

import leptonai
from leptonai.core import settings
from leptonai.core.runtimes import Variant
from leptonai.sdk import client
from serving import bodies, cnn, load, measure, process

SERVICE = "cnn"
TRAINED_ON = 6_400  # images
SETTLE_SECONDS = 60.0
PRECISION = "precision"  # the setting that lets rounder sums take part in the race for the quickest runtime


@dataclass(frozen=True)
class Plane:
    """The plane that answers: where, with which requests, and what it says it can do."""

    base: str
    json: load.Request
    binary: load.Request | None
    extensions: tuple[str, ...]
    guarded: bool  # whether a request without a key is turned away


class Ours:
    """A home folder with one trained and published CNN. `secret`: a key that may call services and nothing else."""

    def __init__(self, folder: Path):
        self.home = folder / "home"
        self.model = folder / "cnn.onnx"  # the same weights, for the others
        self.secret = ""

    def train(self) -> str:
        """Train, publish and deploy it; write the ONNX file that the others serve. Returns where the images come from."""
        x, y, source = cnn.images(TRAINED_ON)
        npz = self.home.parent / "images.npz"
        np.savez(npz, image=x, label=y)
        with self._server({}):
            data = leptonai.create_dataset("images", files=npz, target="label", types={"label": "category"})
            model = leptonai.Model(cnn.network())
            model.compile(optimizer="adam", loss="cross_entropy")
            # Pixels are from 0 to 1 already: the model is to take them as they are, like everybody's.
            model.fit(data, epochs=1, batch_size=128, scale=False, verbose=0)
            model.publish("cnn", verbose=0).deploy(SERVICE)
            made = client.current().http.call("POST", "/keys", json={"name": "bench", "scopes": ["service:predict"]})
            self.secret = made["secret"]
        assert isinstance(model.model, nn.Module)
        cnn.export(model.model, self.model)
        return source

    @contextlib.contextmanager
    def running(self, images: np.ndarray, environment: Mapping[str, str]) -> Iterator[Plane]:
        """Start the server of the home folder with some settings, and give the plane that answers."""
        with self._server(environment):
            service = leptonai.get_service(SERVICE).wait_ready(60.0)
            base = service.url.partition("/services/")[0]
            yield self._plane(base, SERVICE, images)

    @contextlib.contextmanager
    def _server(self, environment: Mapping[str, str]) -> Iterator[None]:
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            client.connect(home=self.home)
            yield
        finally:
            client.disconnect()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def _plane(self, base: str, name: str, images: np.ndarray) -> Plane:
        said = self._get(f"{base}/v2")
        shape = self._get(f"{base}/v2/models/{name}")
        (tensor,) = shape["inputs"]
        given = images.astype({"FP32": np.float32, "FP64": np.float64, "UINT8": np.uint8}[tensor["datatype"]])
        given = given.reshape(-1, *tensor["shape"][1:])
        path, output = f"/v2/models/{name}/infer", _scores(shape["outputs"])
        plain = bodies.v2(path, tensor["name"], given, tensor["datatype"])
        guarded = load.post(base, plain)[0] == 401
        binary = None
        if "binary_tensor_data" in said.get("extensions", ()):
            binary = self._signed(bodies.v2_binary(path, tensor["name"], output, given, tensor["datatype"]))
        return Plane(base, self._signed(plain), binary, tuple(said.get("extensions", ())), guarded)

    def _get(self, url: str) -> dict[str, object]:
        import urllib.request

        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.secret}"})
        with urlopen(asked, timeout=10) as answer:
            return json.load(answer)

    def _signed(self, request: load.Request) -> load.Request:
        return load.Request(request.path, request.bodies, {**request.headers, "Authorization": f"Bearer {self.secret}"})

    def pids(self) -> list[int]:
        """Return the processes of the plane."""
        server = psutil.Process(json.loads((self.home / "server.json").read_text())["pid"])
        found = []
        for child in server.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "leptonai.serving.plane" in child.cmdline():
                    found.append(child.pid)
        return found

    def round(
        self, plan: measure.Plan, images: np.ndarray, expected: np.ndarray, environment: Mapping[str, str], number: int
    ) -> tuple[measure.Seen, Plane]:
        """Start, measure, stop: a round. Its start is the deploy of one more service, to its first answer, while it runs."""
        with self.running(images, environment) as plane:
            measure.check(plane.json, plane.base, expected)
            if plane.binary is not None:
                measure.check(plane.binary, plane.base, expected)
            self._settle(environment)
            rss, pss = process.memory(self.pids())
            loads = measure.loads(plane.base, plane.json, plane.binary, plan)
            return measure.Seen(self._deploy(plane, number), rss, pss, loads), plane

    def _settle(self, environment: Mapping[str, str]) -> None:
        """Wait until the race for the model has ended, and what the server loads after its start is loaded.

        Callers are answered all the while, by the plain runtime; but a race and the libraries for training take processor time
        (at low priority) for some seconds after a start, which is not what a server does all day.
        """
        wanted, file = environment.get(settings.SETTINGS[PRECISION].variable, "fp32"), self.home / "races.json"
        until = time.perf_counter() + SETTLE_SECONDS
        while time.perf_counter() < until:
            raced = json.loads(file.read_text()) if file.exists() else {}
            if any(json.loads(key)[1] == wanted for key in raced):
                break
            time.sleep(0.1)
        else:
            raise process.NotStarted(f"the race for {wanted} did not end within {SETTLE_SECONDS:g} s")
        pid = json.loads((self.home / "server.json").read_text())["pid"]
        if not process.quiet(pid, SETTLE_SECONDS):
            raise process.NotStarted(f"the server still computes {SETTLE_SECONDS:g} s after its start")

    def won(self) -> dict[str, str]:
        """Return what won the race for the model, by the precision that was allowed."""
        raced = json.loads((self.home / "races.json").read_text())
        return {json.loads(key)[1]: Variant(**found["chosen"]).name for key, found in raced.items()}

    def _deploy(self, plane: Plane, number: int) -> float:
        """Return the seconds from the call to `deploy` to the first answer of a new service."""
        name = f"more-{number}"
        request = replace(plane.json, path=plane.json.path.replace(f"/{SERVICE}/", f"/{name}/"))
        calm()
        start = time.perf_counter()
        service = leptonai.get_model("models:/cnn/1").deploy(name)
        status, _, body = load.post(plane.base, request)
        took = time.perf_counter() - start
        if status != 200:
            raise process.NotStarted(f"a service that is ready answers {status}: {body[:200].decode(errors='replace')}")
        service.delete()
        return took


def _scores(outputs: list[dict[str, object]]) -> str:
    """Return the name of the output with ten floats."""
    return next(str(o["name"]) for o in outputs if o["datatype"] == "FP32" and o["shape"][-1] == cnn.CLASSES)  # type: ignore[index]


def race() -> Mapping[str, str] | None:
    """Return the settings under which any runtime and precision may win, where there are such settings."""
    found = settings.SETTINGS.get(PRECISION)
    return None if found is None else {found.variable: "auto"}
