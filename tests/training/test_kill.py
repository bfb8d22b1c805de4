"""`kill -9` at any moment: the training goes on and ends with the same bits (on CPU)."""

import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from leptonai.core import settings

ROOT = Path(__file__).parents[2]


def start(folder: Path, kind: str, backend: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.support.train_child", str(folder), kind],
        cwd=ROOT,
        env=settings.environment(
            KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", OMP_NUM_THREADS="1"
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen[str]) -> str:
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err[-3000:]
    return out


def interrupted(folder: Path, kind: str, backend: str, kills: int, how: signal.Signals, rng: random.Random) -> int:
    """Start, end after a few checkpoints and a moment, start again …; the last one runs through. Return how many ended."""
    landed = 0
    for _ in range(kills):
        with start(folder, kind, backend) as child:
            assert child.stdout is not None
            for _ in range(rng.randint(1, 6)):
                if child.stdout.readline().strip() != "saved":
                    break
            time.sleep(rng.uniform(0, 0.05))
            child.send_signal(how)
            child.communicate(timeout=60)
            landed += child.returncode == -how
    with start(folder, kind, backend) as child:
        finish(child)
    return landed


def compare(tmp_path: Path, kind: str, backend: str, kills: int, how: signal.Signals, seed: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    with start(whole, kind, backend) as child:
        finish(child)
    parts.mkdir()
    for name in ("code", "keys", "blobs"):  # the same packed model, with the same first weights
        subprocess.run(["cp", "-r", whole / name, parts / name], check=True)
    landed = interrupted(parts, kind, backend, kills, how, random.Random(seed))
    assert landed, "no signal hit a running training"
    assert "goes on from epoch" in (parts / "log").read_text()
    assert (parts / "weights").read_bytes() == (whole / "weights").read_bytes()
    assert np.array_equal(np.load(parts / "history.npy"), np.load(whole / "history.npy"))


def test_a_killed_pytorch_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    compare(tmp_path, "torch", "torch", kills=2, how=signal.SIGKILL, seed=1)


def test_a_killed_training_on_augmented_batches_ends_with_the_same_bits(tmp_path: Path) -> None:
    compare(tmp_path, "augmented", "torch", kills=2, how=signal.SIGKILL, seed=6)


def test_a_training_that_is_told_to_stop_leaves_a_checkpoint(tmp_path: Path) -> None:
    compare(tmp_path, "torch", "torch", kills=1, how=signal.SIGTERM, seed=2)


def test_a_killed_keras_training_on_pytorch_ends_with_the_same_bits(tmp_path: Path) -> None:
    compare(tmp_path, "keras", "torch", kills=1, how=signal.SIGKILL, seed=3)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_a_killed_keras_training_on_tensorflow_ends_with_the_same_bits(tmp_path: Path) -> None:
    compare(tmp_path, "keras", "tensorflow", kills=1, how=signal.SIGKILL, seed=4)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("kind", "backend"), [("torch", "torch"), ("keras", "torch"), ("keras", "tensorflow")])
def test_killed_many_times(tmp_path: Path, kind: str, backend: str) -> None:
    compare(tmp_path, kind, backend, kills=12, how=signal.SIGKILL, seed=5)
