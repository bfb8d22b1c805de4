"""An epoch of the CNN through the platform, beside a loop by hand and trainers of others, one after the other."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from _common import peer_python

import leptonai
from leptonai.core.stages import FLAVOURS
from training.parts import BATCH, network
from training.side_by_side import PATIENCE, Beside, Ended, Room, beside, speed
from training.turns import Turns

HERE = Path(__file__).parent
HAND = ("plain", "last", "fused", "last+fused", "last+fused+order", "last+fused+order+bf16")
KERAS = ("torch", "tensorflow", "jax")
NOTHING: Mapping[str, str] = MappingProxyType({})
LONG = 900  # batches: so long a training races its ways


def measure(data: dict[str, np.ndarray], folder: Path, epochs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the ratios of throughput, ours to theirs, and what was measured."""
    prepare(data, folder)
    chosen, hand = remember(len(data["x"])), best_hand(folder)
    found: dict[str, Beside] = {}
    for name, other in {"hand": by_hand(folder, hand), **peers(folder)}.items():
        try:
            found[name] = beside(Ours(folder / f"beside_{name}", epochs), other(epochs), epochs)
        except Ended as told:
            print(f"{name} is left out: {_last(told.args[0])}", file=sys.stderr)
    ratios = {"epoch_vs_best_hand_loop": found["hand"].ratio()}
    ratios |= {f"epoch_vs_{name}": found[name].ratio() for name in ("lightning", "accelerate") if name in found}
    if keras := [one.ratio() for name, one in found.items() if name.startswith("keras")]:
        ratios["epoch_vs_keras"] = min(keras)
    rows, with_hand = len(data["x"]), found["hand"]
    figures = {
        "rows": rows, "epochs": epochs, "hand_loop": hand, "ours_chose": chosen,
        "beside": {name: one.spread() for name, one in found.items()},
        "samples_per_s": {"ours": speed(with_hand.ours, rows)} | {name: speed(one.theirs, rows) for name, one in found.items()},
        "accuracy": {"ours": with_hand.accuracies[0]} | {name: one.accuracies[1] for name, one in found.items()},
    }  # fmt: skip
    return ratios, figures


def prepare(data: dict[str, np.ndarray], folder: Path) -> None:
    """Have the images where all find them: in a file of the folder, and in two datasets."""
    np.savez(folder / "parts.npz", **data)
    for name, x, y in (("images", data["x"], data["y"]), ("held", data["vx"], data["vy"])):
        path = folder / f"{name}.npz"
        np.savez(path, x=x, y=y)
        leptonai.create_dataset(name, files=path, target="y", types={"y": "category"})


def malloc() -> dict[str, str]:
    """What our Runs set for the memory of C, which a hand-written loop gains from, too."""
    return dict(FLAVOURS["torch"][1])


def remember(rows: int) -> str:
    """Race the ways at the start of a long training, which is stopped after one epoch; return what the log says of it."""
    history = leptonai.Model(network()).fit(
        "images", epochs=-(-LONG * BATCH // rows), batch_size=BATCH, callbacks=[_enough], verbose=0
    )
    return next((line.split("] ")[-1] for line in history.run.logs() if "computes" in line), "nothing")


def _enough(_: int, __: dict[str, float]) -> str:
    return "stop"


def best_hand(folder: Path) -> str:
    """Return the way by which a loop by hand is the quickest here."""
    done = subprocess.run(
        [sys.executable, str(HERE / "by_hand.py"), "race", str(folder), ",".join(HAND)],
        capture_output=True, text=True, check=True, env={**os.environ, **malloc()},
    )  # fmt: skip
    seconds = dict(one.split("=") for one in done.stdout.split())
    return min(seconds, key=lambda name: float(seconds[name]))


def by_hand(folder: Path, way: str) -> Callable[[int], "Other"]:
    """Return what makes a loop by hand of some epochs."""
    return partial(Other, folder / "hand", [str(HERE / "by_hand.py"), "turns", str(folder), way], more=malloc())


def peers(folder: Path) -> dict[str, Callable[[int], "Other"]]:
    """Return what makes each of the trainers of others."""
    python = peer_python("training")
    if python is None:
        return {}
    found: dict[str, dict[str, str]] = {"lightning": {}, "accelerate": {}}
    for backend in KERAS:
        found[f"keras_{backend}"] = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
    return {
        name: partial(
            Other, folder / name, [str(HERE / "peers.py"), name.split("_")[0], str(folder)], more=more, python=python
        )
        for name, more in found.items()
    }


class Other:
    """A process that trains when it is told."""

    def __init__(
        self,
        folder: Path,
        asked: list[str],
        epochs: int,
        more: Mapping[str, str] = NOTHING,
        python: str = sys.executable,
    ):
        self.folder = folder
        self.folder.mkdir()
        self._asked = [python, *asked, str(self.folder), str(epochs)]
        self._environment = {**os.environ, **more}

    def __enter__(self) -> "Other":
        self.room = Room(self.folder, lambda: self._process.poll() is None)
        with (self.folder / "errors").open("w") as errors:
            self._process = subprocess.Popen(
                self._asked, stdout=subprocess.PIPE, stderr=errors, text=True, env=self._environment
            )
        return self

    def accuracy(self) -> float:
        """Return what it prints at its end."""
        return float(self.join().split()[-1])

    def join(self) -> str:
        """Wait until it is over; return what it printed."""
        return self._process.communicate(timeout=PATIENCE)[0]

    def __exit__(self, *_: object) -> None:
        self.room.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Ours:
    """The same by `fit`: its callback waits for its turn inside the Run."""

    def __init__(self, folder: Path, epochs: int, **more: Any):
        self.folder, self._epochs, self._more = folder, epochs, more
        self.folder.mkdir()
        self._model = leptonai.Model(network())
        self._model.compile("adam", "cross_entropy", metrics=["accuracy"])

    def __enter__(self) -> "Ours":
        self._thread = threading.Thread(target=self._fit)
        self.room = Room(self.folder, self._thread.is_alive)
        self._thread.start()
        return self

    def _fit(self) -> None:
        self._model.fit(
            "images", epochs=self._epochs, batch_size=BATCH, callbacks=[Turn(Turns(str(self.folder)))], verbose=0,
            **self._more,
        )  # fmt: skip

    def accuracy(self) -> float:
        """Evaluate what was learnt."""
        self.join()
        return round(float(self._model.evaluate("held", verbose=0).metrics["accuracy"]), 4)

    def join(self) -> None:
        """Wait until it is over."""
        self._thread.join(PATIENCE)

    def __exit__(self, *_: object) -> None:
        self.room.close()
        self._thread.join(30)


class Turn:
    """A callback that keeps to its turns."""

    def __init__(self, turns: Turns):
        self.turns = turns

    def on_epoch_begin(self, *_: object) -> None:
        self.turns.begin()

    def on_train_batch_end(self, *_: object) -> None:
        self.turns.batch()

    def on_epoch_end(self, *_: object) -> None:
        self.turns.end()


def _last(folder: Path) -> str:
    errors = folder / "errors"
    told = errors.read_text().strip().splitlines() if errors.exists() else []
    return f"{folder.name}: {told[-1] if told else 'it ended'}"
