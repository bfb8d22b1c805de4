"""`kill -9` at any moment: the training goes on and ends with the same bits (on CPU)."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from tests.support.back_end import needs

from leptonai.core import settings

ROOT = Path(__file__).parents[2]


def launch(backend: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.support.train_child", *arguments],
        cwd=ROOT,
        env=settings.environment(
            KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", OMP_NUM_THREADS="1"
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if not arguments else subprocess.PIPE,
        text=True,
    )


class Fresh:
    """Each training has a process that begins with nothing."""

    def __init__(self, backend: str):
        self._backend = backend
        self._child: subprocess.Popen[str]

    def start(self, folder: Path, kind: str) -> None:
        self._child = launch(self._backend, str(folder), kind)

    def heard(self) -> str:
        """Return the next line that it says; "" at its end."""
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def send(self, how: signal.Signals) -> None:
        self._child.send_signal(how)

    def end(self) -> int:
        """Return how it ended, when it has."""
        _, err = self._child.communicate(timeout=240)
        assert self._child.returncode <= 0, err[-3000:]
        return self._child.returncode


class Forked:
    """Each training has a process of its own, forked from one that has loaded the libraries."""

    def __init__(self) -> None:
        self._parent = launch("torch")
        self._said: IO[str]
        self._folder: Path
        self._pid = 0

    def _answer(self) -> int:
        assert self._parent.stdout is not None
        return int(self._parent.stdout.readline())

    def start(self, folder: Path, kind: str) -> None:
        self._folder = folder
        if not (folder / "said").exists():
            os.mkfifo(folder / "said")
        assert self._parent.stdin is not None
        print(folder, kind, file=self._parent.stdin, flush=True)
        self._pid = self._answer()
        self._said = (folder / "said").open()

    def heard(self) -> str:
        return self._said.readline().strip()

    def send(self, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, how)

    def end(self) -> int:
        with self._said:
            self._said.read()
        code = self._answer()
        assert code <= 0, (self._folder / "errors").read_text()[-3000:]
        return code

    def close(self) -> None:
        self._parent.communicate()


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    made = Forked()
    yield made
    made.close()


def interrupted(
    child: Fresh | Forked, folder: Path, kind: str, kills: int, how: signal.Signals, rng: random.Random
) -> int:
    """Start, end after a few checkpoints and a moment, start again …; the last one runs through. Return how many ended."""
    landed = 0
    for _ in range(kills):
        child.start(folder, kind)
        for _ in range(rng.randint(1, 6)):
            if child.heard() != "saved":
                break
        time.sleep(rng.uniform(0, 0.05))
        child.send(how)
        landed += child.end() == -how
    child.start(folder, kind)
    assert child.end() == 0
    return landed


def compare(child: Fresh | Forked, tmp_path: Path, kind: str, kills: int, how: signal.Signals, seed: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    child.start(whole, kind)
    assert child.end() == 0
    parts.mkdir()
    for name in ("code", "keys", "blobs"):  # the same packed model, with the same first weights
        subprocess.run(["cp", "-r", whole / name, parts / name], check=True)
    landed = interrupted(child, parts, kind, kills, how, random.Random(seed))
    assert landed, "no signal hit a running training"
    assert "goes on from epoch" in (parts / "log").read_text()
    assert (parts / "weights").read_bytes() == (whole / "weights").read_bytes()
    assert np.array_equal(np.load(parts / "history.npy"), np.load(whole / "history.npy"))


def test_a_killed_pytorch_training_ends_with_the_same_bits(forked: Forked, tmp_path: Path) -> None:
    compare(forked, tmp_path, "torch", kills=2, how=signal.SIGKILL, seed=1)


def test_a_killed_training_on_augmented_batches_ends_with_the_same_bits(forked: Forked, tmp_path: Path) -> None:
    compare(forked, tmp_path, "augmented", kills=2, how=signal.SIGKILL, seed=6)


def test_a_killed_training_with_schedule_averages_and_gradients_that_wait_ends_with_the_same_bits(
    forked: Forked, tmp_path: Path
) -> None:
    compare(forked, tmp_path, "everything", kills=2, how=signal.SIGKILL, seed=7)


def test_a_training_that_is_told_to_stop_leaves_a_checkpoint(forked: Forked, tmp_path: Path) -> None:
    compare(forked, tmp_path, "torch", kills=1, how=signal.SIGTERM, seed=2)


def test_a_killed_keras_training_on_pytorch_ends_with_the_same_bits(forked: Forked, tmp_path: Path) -> None:
    compare(forked, tmp_path, "keras", kills=1, how=signal.SIGKILL, seed=3)


@pytest.mark.slow
def test_a_killed_keras_training_on_tensorflow_ends_with_the_same_bits(tmp_path: Path) -> None:
    compare(Fresh("tensorflow"), tmp_path, "keras", kills=1, how=signal.SIGKILL, seed=4)


@pytest.mark.slow
def test_a_killed_keras_training_on_jax_ends_with_the_same_bits(tmp_path: Path) -> None:
    needs("jax")
    compare(Fresh("jax"), tmp_path, "keras", kills=1, how=signal.SIGKILL, seed=8)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("kind", "backend"), [("torch", "torch"), ("keras", "torch"), ("keras", "tensorflow")])
def test_killed_many_times(tmp_path: Path, kind: str, backend: str) -> None:
    compare(Fresh(backend), tmp_path, kind, kills=12, how=signal.SIGKILL, seed=5)
