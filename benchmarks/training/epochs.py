"""An epoch of the CNN through the platform, beside hand-written loops and trainers of others: in turns, epoch by epoch."""

import os
import random
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from _common import median, median_ratio, peer_python
from _host import calm, watched

import leptonai
from leptonai.core.stages import FLAVOURS
from training import side_by_side, turns
from training.parts import BATCH, network

HERE = Path(__file__).parent
HAND = ("plain", "last", "fused", "last+fused", "last+fused+order", "last+fused+order+bf16")
KERAS = ("torch", "tensorflow", "jax")
PATIENCE = 600.0  # seconds for a peer to be ready, and for an epoch
NEVER = float("nan")
LONG = 900  # batches: so long a training races its ways


def measure(data: dict[str, np.ndarray], folder: Path, epochs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the ratios of throughput, ours to theirs, and what was measured."""
    np.savez(folder / "parts.npz", **data)
    chosen = remember(data, folder)
    hand = best_hand(folder)
    arguments = [str(HERE / "by_hand.py"), "short", str(folder), hand]
    beside = side_by_side.ratios(
        Ours(
            data,
            folder,
            epochs,
            "ours_short",
            side_by_side.ShortTurn(side_by_side.ShortTurns(str(folder / "ours_short"))),
        ),
        Other("hand_short", arguments, folder, epochs, malloc()),
        epochs,
        -(-len(data["x"]) // BATCH),
    )
    with ExitStack() as stack:
        who: dict[str, Any] = {"ours": stack.enter_context(Ours(data, folder, epochs))}
        who["hand"] = stack.enter_context(
            Other("hand", [str(HERE / "by_hand.py"), "turns", str(folder), hand], folder, epochs, malloc())
        )
        who |= {name: stack.enter_context(peer) for name, peer in peers(folder, epochs).items()}
        took = in_turns(who, epochs)
        told = {name: one.accuracy() for name, one in who.items() if name in took}
    rows = len(data["x"])
    keras = {name: times for name, times in took.items() if name.startswith("keras")}
    ratios = {"epoch_vs_best_hand_loop": median(beside)}
    for name in ("lightning", "accelerate"):
        if name in took:
            ratios[f"epoch_vs_{name}"] = median_ratio(took[name], took["ours"])
    if keras:
        ratios["epoch_vs_keras"] = min(median_ratio(times, took["ours"]) for times in keras.values())
    figures = {
        "rows": rows, "epochs": epochs, "hand_loop": hand, "ours_chose": chosen, "beside_hand_loop": side_by_side.spread(beside),
        "samples_per_s": {name: round(rows / median(times)) for name, times in took.items()},
        "accuracy": {name: round(found, 4) for name, found in told.items()},
    }  # fmt: skip
    return ratios, figures


def malloc() -> dict[str, str]:
    """What our Runs set for the memory of C, which a hand-written loop gains from, too."""
    return dict(FLAVOURS["torch"][1])


def remember(data: dict[str, np.ndarray], folder: Path) -> str:
    """Race the ways at the start of a long training, which is stopped after one epoch; return what the log says of it."""
    path = folder / "images.npz"
    np.savez(path, x=data["x"], y=data["y"])
    leptonai.create_dataset("images", files=path, target="y", types={"y": "category"})
    model = leptonai.Model(network())
    history = model.fit(
        "images", epochs=-(-LONG * BATCH // len(data["x"])), batch_size=BATCH, callbacks=[_enough], verbose=0
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


def peers(folder: Path, epochs: int) -> dict[str, "Other"]:
    python = peer_python("training")
    if python is None:
        return {}
    script = str(HERE / "peers.py")
    found = {
        name: Other(name, [script, name, str(folder)], folder, epochs, {}, python)
        for name in ("lightning", "accelerate")
    }
    for backend in KERAS:
        more = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
        found[f"keras_{backend}"] = Other(
            f"keras_{backend}", [script, "keras", str(folder)], folder, epochs, more, python
        )
    return found


class Other:
    """A process that trains when it is told."""

    def __init__(
        self, name: str, asked: list[str], folder: Path, epochs: int, more: dict[str, str], python: str = sys.executable
    ):
        self.folder = folder / name
        self.folder.mkdir()
        self._asked = [python, *asked, str(self.folder), str(epochs)]
        self._environment = {**os.environ, **more}

    def __enter__(self) -> "Other":
        self._errors = (self.folder / "errors").open("w+")
        self._process = subprocess.Popen(
            self._asked, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=self._environment
        )
        return self

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def accuracy(self) -> float:
        out, _ = self._process.communicate(timeout=PATIENCE)
        return float(out.split()[-1])

    def __exit__(self, *_: object) -> None:
        (self.folder / "stop").touch()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


class Ours:
    """The same by `fit`: its callback waits for its turn inside the Run."""

    def __init__(
        self,
        data: dict[str, np.ndarray],
        folder: Path,
        epochs: int,
        name: str = "ours",
        turn: Any = None,
        **more: Any,
    ):
        self.folder, self._epochs, self._more = folder / name, epochs, more
        self._turn = turn or Turn(turns.Turns(str(self.folder)))
        self.folder.mkdir()
        held = self.folder / "held.npz"
        np.savez(held, x=data["vx"], y=data["vy"])
        leptonai.create_dataset("held", files=held, target="y", types={"y": "category"})
        self._model = leptonai.Model(network())
        self._model.compile("adam", "cross_entropy", metrics=["accuracy"])

    def __enter__(self) -> "Ours":
        self._thread = threading.Thread(target=self._fit)
        self._thread.start()
        return self

    def _fit(self) -> None:
        self._model.fit(
            "images",
            epochs=self._epochs,
            batch_size=BATCH,
            callbacks=[self._turn],
            verbose=0,
            **self._more,
        )

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def accuracy(self) -> float:
        self._thread.join(PATIENCE)
        return float(self._model.evaluate("held", verbose=0).metrics["accuracy"])

    def __exit__(self, *_: object) -> None:
        (self.folder / "stop").touch()
        self._thread.join(30)


class Turn:
    """A callback that keeps to its turn."""

    def __init__(self, turns: turns.Turns):
        self.turns = turns

    def on_epoch_begin(self, *_: object) -> None:
        self.turns.begin()

    def on_epoch_end(self, *_: object) -> None:
        self.turns.end()


def in_turns(who: dict[str, Any], epochs: int) -> dict[str, list[float]]:
    """Give the word to one after the other, whenever the host has time; whoever ends before his time is left out."""
    took: dict[str, list[tuple[float, bool]]] = {name: [] for name in who}
    for epoch in range(epochs):
        names = list(who)
        random.Random(epoch).shuffle(names)  # nobody always comes after the same one
        for name in names:
            if name not in took:
                continue
            one = who[name]
            if not until(lambda one=one, epoch=epoch: turns.ready(one.folder, epoch), one):
                print(f"{name} is left out: {_last(one)}", file=sys.stderr)
                del took[name]
                continue
            calm()
            with watched() as seen:
                turns.go(one.folder, epoch)
                until(lambda one=one, epoch=epoch: turns.seconds(one.folder, epoch) is not None, one)
            if epoch:
                took[name].append((turns.seconds(one.folder, epoch) or NEVER, seen.disturbed))
    return {name: _believed(times) for name, times in took.items()}


def _believed(times: list[tuple[float, bool]]) -> list[float]:
    """Return the seconds of each turn, NaN where the host disturbed it; as they are where it disturbed all of them."""
    spoilt = all(disturbed for _, disturbed in times)
    return [NEVER if disturbed and not spoilt else seconds for seconds, disturbed in times]


def until(met: Any, one: Any) -> bool:
    """Wait until something is so; False where its process ended, or patience."""
    end = time.monotonic() + PATIENCE
    while not met():
        if not one.alive or time.monotonic() > end:
            return bool(met())
        time.sleep(0.05)
    return True


def _last(one: Any) -> str:
    errors = one.folder / "errors"
    return next(reversed(errors.read_text().strip().splitlines()), "it ended") if errors.exists() else "it ended"
