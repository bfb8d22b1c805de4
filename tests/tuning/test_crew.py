"""Several processes try settings at once: each trial has one result, and one that kills its process fails alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leptonai.tuning import journal
from leptonai.tuning.spec import Tuned


def studied(folder: Path, **asked: Any) -> tuple[Tuned, list[str], list[tuple[int, int]]]:
    """Return its result, its log, and the (process, max_depth) of each fit; in a process that has computed nothing."""
    said = folder / "said"
    call = [sys.executable, "-m", "tests.support.study", str(folder / "job"), json.dumps(asked)]
    done = subprocess.run(
        call, env={**os.environ, "STUDY_SAID": str(said), "PYTHONPATH": str(Path(__file__).parents[2])}, cwd=folder, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    fits = [tuple(map(int, line.split())) for line in said.read_text().splitlines()]
    return Tuned.model_validate(found["result"]), found["lines"], fits  # type: ignore[return-value]


def depths(*choices: int) -> dict[str, Any]:
    return {"max_depth": {"kind": "choice", "choices": choices}}


@pytest.mark.slow
def test_two_processes_share_the_trials_and_one_that_kills_its_process_fails_alone(tmp_path: Path) -> None:
    tuned, lines, fits = studied(
        tmp_path, space=depths(1, 2, 3, 4, 5, 6, 7, 8), sampler="grid", trials=8, parallel=2, seed=1
    )
    assert [t.number for t in tuned.trials] == list(range(8))
    states = {t.params["max_depth"]: t.state for t in tuned.trials}
    assert states == {depth: "failed" if depth == 3 else "done" for depth in range(1, 9)}
    (failed,) = (t for t in tuned.trials if t.state == "failed")
    assert "its process died, and so did the one in which it began again: it was ended by SIGKILL" in str(failed.error)
    assert any("begins again in another one" in line for line in lines)
    assert sorted(depth for _, depth in fits) == [1, 2, 3, 3, 4, 5, 6, 7, 8]  # the deadly one twice, no other one twice
    # Warm ones stay; two died, and whether who took their places had anything left to do is a matter of time.
    assert 2 + 2 >= len({pid for pid, _ in fits}) >= 2 == len({pid for pid, depth in fits if depth == 3})
    entries = [json.loads(line) for line in (tmp_path / "job" / "journal").read_text().splitlines()]
    assert [e["number"] for e in entries if e["kind"] == "asked"] == list(range(8))
    assert sorted(e["trial"]["number"] for e in entries if e["kind"] == "told") == list(range(8))
    again = journal.read(entries)
    assert tuned.best in again.kept and again.told[tuned.best].values[0] == max(
        t.values[0] for t in tuned.trials if t.values
    )


@pytest.mark.slow
def test_nobody_waits_for_trials_at_work_once_the_goal_is_met(tmp_path: Path) -> None:
    tuned, _, _ = studied(
        tmp_path, space=depths(9, 5), sampler="grid", trials=2, parallel=2, stop_at=0.5, first=[{"max_depth": 9}]
    )
    assert [(t.params["max_depth"], t.state) for t in tuned.trials] == [(9, "pruned"), (5, "done")]
    assert tuned.best == 1
