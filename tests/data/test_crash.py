"""Imports and appends that are killed at any call to the operating system: the next attempt makes the same version."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def enumerate_crashes(folder: Path, step: int) -> tuple[list[dict[str, object]], int]:
    command = [sys.executable, "-m", "tests.support.import_crasher", str(folder), str(step)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1500)
    *made, last = [json.loads(line) for line in done.stdout.splitlines()]
    return made, last["calls"]


@pytest.mark.parametrize("step", [71, pytest.param(1, marks=pytest.mark.slow)])
def test_an_import_that_is_killed_anywhere_is_made_by_the_next_attempt(step: int, tmp_path: Path) -> None:
    made, calls = enumerate_crashes(tmp_path, step)
    assert calls > 100
    assert len(made) == (calls - 1) // step
    bad = [it for it in made if it != made[0] or not it["right"] or not it["shared"]]
    assert bad == [], f"{len(bad)} of {len(made)}"
