"""Keras reads its back end once, when it is imported: what is asked of another one runs in a process of its own."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from leptonai.core import settings

ROOT = Path(__file__).parents[2]


def needs(backend: str) -> None:
    """Skip where a back end is not installed: JAX is for the long tests, for Keras imports it wherever it is, which every process pays."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: scripts/test --slow brings it")


def said(backend: str, module: str, *arguments: str, seconds: float = 600) -> list[Any]:
    """Run a module of `tests.support` with Keras on a back end; return what it printed: JSON, one thing a line."""
    needs(backend)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.support.{module}", *arguments],
        cwd=ROOT,
        env=settings.environment(KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1"),
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]  # nothing else is printed
