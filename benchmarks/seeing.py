"""What a request costs more because it may be looked at: the same code that a serving process runs after an answer was sent.

Processor time in microseconds for each request, at a made-up rate of 4,000 requests a second of one process (so that 20 of them are
kept each second, as there), for one image of 28x28 float32 and for a row of four numbers. No server runs.
"""

import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from _common import interleaved, publish

from leptonai.serving.plane.access import AccessLog, kept
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.keys import Keys
from leptonai.serving.plane.outputs import Batch, Part
from leptonai.serving.plane.recent import Sight, Watch

REQUESTS = 40_000
RATE = 4_000  # a second
ROUNDS = 7
HEADERS = {b"authorization": b"Bearer lepton_key_x", b"content-type": b"application/json"}
WAYS = {
    "nothing": (0.0, "off"),
    "default": (0.01, "errors"),
    "every_prediction": (1.0, "off"),
    "every_line": (0.0, "on"),
}


class Seeing:
    """One service whose requests are looked at in some way."""

    def __init__(self, folder: Path, share: float, access: str, inputs: dict[str, np.ndarray]):
        keys = Keys()
        self.watch = Watch(keys)
        self.access = AccessLog(folder / "access-0.jsonl", keys, kept(access))
        self.watch.tell({"a": share})
        self.watch.also(self.access if any(kept(access)) else None, None)
        self.tap = self.watch.tap("a")
        model = SimpleNamespace(id="model_x", name="cnn")
        self.route: Any = SimpleNamespace(
            service="a", version="1", variant="stable", replica=SimpleNamespace(model=model)
        )
        self.inputs = inputs
        self.item = Item(inputs, 1, 60.0, lambda _: None)
        self.item.outcome = Part(Batch({"scores": np.zeros((1, 10), np.float32)}), 0, 1)
        self.now = time.perf_counter()

    def requests(self) -> float:
        """Return the microseconds of processor time of a request; what was kept is fetched now and then, as the agent does."""
        tap, now, step, status, headers = self.tap, self.now, 1 / RATE, 200, HEADERS
        start = time.process_time()
        for number in range(REQUESTS):
            encoded = now = now + step
            tap.left -= 1
            if tap.left <= 0 or encoded >= tap.due or (tap.every and (status != 200 or b"traceparent" in headers)):
                asked = (b"id", b"POST", b"/v2/models/a/infer", headers, 5000, 200, status)
                tap.look(Sight(*asked, self.route, self.inputs, self.item, now, encoded))
            if number % RATE == 0:
                self.watch.drain()
        self.now = now
        return (time.process_time() - start) / REQUESTS * 1e6


def bare() -> float:
    """Return the same of the loop alone."""
    now, step = 0.0, 1 / RATE
    start = time.process_time()
    for number in range(REQUESTS):
        encoded = now = now + step  # noqa: F841
        if number % RATE == 0:
            pass
    return (time.process_time() - start) / REQUESTS * 1e6


def main() -> None:
    bodies = {"image": np.zeros((1, 28, 28), np.float32), "row": np.zeros((1, 4), np.float64)}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="leptonai-bench-") as folder:
        for body, array in bodies.items():
            made = {name: Seeing(Path(folder), *way, {"x": array}) for name, way in WAYS.items()}
            took = interleaved(ROUNDS, bare=bare, **{name: one.requests for name, one in made.items()})
            for name, one in made.items():
                values = [a - b for a, b in zip(took[name], took["bare"], strict=True)]
                figures[f"{body}_{name}_us"] = statistics.median(values)
                figures[f"{body}_{name}_us_worst_round"] = max(values)
                one.access.close()
    publish("seeing", {}, figures | {"rate": RATE, "rounds": ROUNDS}, ("numpy",))


if __name__ == "__main__":
    main()
