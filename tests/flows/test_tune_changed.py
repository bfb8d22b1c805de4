"""A dataset that gets a version, or is to be shredded, while a study runs on it: the study keeps to the rows it began with."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.slow_trials import build_with, table

import leptonai
from leptonai.core.errors import Conflict

SPACE = {"max_depth": (1, 12), "min_samples_leaf": (1, 100, "log")}


def study(tmp_path: Path, change: Callable[[], Any]) -> "tuple[leptonai.Tuning, list[Any]]":
    """Return a study during whose third trial something was changed, and what the change gave or raised."""
    pids, said = tmp_path / "pids", []

    def wait_and_change() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (pids.exists() and len(pids.read_text().splitlines()) > 3):
            time.sleep(0.02)
        try:
            said.append(change())
        except Conflict as error:
            said.append(error)

    thread = threading.Thread(target=wait_and_change)
    thread.start()
    try:
        found = leptonai.Model().tune(
            SPACE, data="t", goal="val_accuracy", budget=10, build=build_with(str(pids)), parallel=2, verbose=0
        )
    finally:
        thread.join()
    return found, said


@pytest.mark.slow
def test_a_dataset_that_changes_under_a_study(home: Path, tmp_path: Path) -> None:
    leptonai.create_dataset("t", files=table(tmp_path), target="label")
    more = tmp_path / "more.csv"
    more.write_text("a,b,label\n" + "".join(f"{i},1,yes\n" for i in range(500)))
    first = leptonai.get_dataset("t")
    found, said = study(tmp_path, lambda: first.append(files=more))
    assert said[0].version == 2 and len(found.trials) == 10
    assert {trial.state for trial in found.trials} == {"done"}
    assert found.run.record.spec["data"] == found.best_run.record.spec["data"]
    assert "/t@v1?" in found.best_run.record.spec["data"]
    (tmp_path / "pids").unlink()
    again, said = study(tmp_path, lambda: leptonai.get_dataset("t").shred())
    assert isinstance(said[0], Conflict) and again.run.id in str(said[0])
    assert len(again.trials) == 10 and leptonai.get_dataset("t").rows == first.rows + 500
