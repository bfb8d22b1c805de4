"""One, two and three processes learn the same, whatever is asked of the way to learn."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from leptonai.core import settings

ROOT = Path(__file__).parents[2]


def trained(folder: Path, world: int) -> dict[str, np.ndarray]:
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.support.ranked", str(folder), str(rank), str(world)],
            cwd=ROOT, env=settings.environment(CUDA_VISIBLE_DEVICES="-1"), stderr=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    for process in started:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-3000:]
    return dict(np.load(folder / f"{world}.npz"))


@pytest.mark.slow
def test_schedules_averages_weights_of_classes_and_augmented_rows_are_those_of_one_process(tmp_path: Path) -> None:
    one = trained(tmp_path, 1)
    for world in (2, 3):
        found = trained(tmp_path, world)
        assert found.keys() == one.keys()
        assert np.allclose(found["weights"], one["weights"], atol=2e-4)
        for name in (name for name in one if name.startswith("history.")):
            assert np.allclose(found[name], one[name], atol=6e-3), name
