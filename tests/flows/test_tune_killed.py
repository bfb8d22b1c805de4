"""A study whose processes are killed: no trial is lost, none is run twice, and the best is the one that its journal tells."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.slow_trials import build_with, table
from typer.testing import CliRunner

import leptonai
from leptonai.cli.main import app

TRIALS = 12


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


VICTIMS: dict[str, Callable[[int, int], int]] = {  # of a process that tries settings, and of the one that forked it
    "worker": lambda worker, _: worker,
    "run": lambda _, nursery: parent_of(nursery),
    "agent": lambda _, nursery: parent_of(
        parent_of(parent_of(nursery))
    ),  # above the Run's its fork server, and then it
}


def killer(pids: Path, victims: list[Callable[[int, int], int]], killed: list[int]) -> None:
    """Kill one after the other, each when three more trials began than when the one before was killed."""
    for victim in victims:
        lines = len(pids.read_text().splitlines()) if pids.exists() else 0
        until = time.monotonic() + 60
        while time.monotonic() < until:
            seen = pids.read_text().splitlines() if pids.exists() else []
            if len(seen) >= lines + 3:
                worker, nursery, *_ = map(int, seen[-1].split())
                try:
                    pid = victim(worker, nursery)
                    os.kill(pid, signal.SIGKILL)
                except (OSError, ValueError):  # it has ended by itself: the next one, then
                    time.sleep(0.02)
                    continue
                killed.append(pid)
                break
            time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("who", [("worker", "run"), ("worker", "agent")], ids=" and ".join)
def test_no_trial_is_lost_or_runs_twice(home: Path, tmp_path: Path, who: tuple[str, ...]) -> None:
    data = leptonai.create_dataset("t", files=table(tmp_path), target="label")
    pids = tmp_path / "pids"
    asked = [VICTIMS[name] for name in who]
    killed: list[int] = []
    thread = threading.Thread(target=killer, args=(pids, asked, killed))
    thread.start()
    space = {"max_depth": (1, 12), "min_samples_leaf": (1, 100, "log")}
    found = leptonai.Model().tune(
        space, data=data, goal="val_accuracy", budget=TRIALS, build=build_with(str(pids)), parallel=2, verbose=0
    )
    thread.join()
    assert len(killed) == len(asked)

    events = [event.body for event in found.run.events("trial")]
    told = {e["trial"]["number"]: e["trial"] for e in events if e["kind"] == "told"}
    assert sorted(told) == list(range(TRIALS)) and all(trial["state"] == "done" for trial in told.values())
    assert Counter(e["number"] for e in events if e["kind"] == "asked") == Counter(range(TRIALS))
    assert Counter(e["trial"]["number"] for e in events if e["kind"] == "told") == Counter(range(TRIALS))
    best = max(told.values(), key=lambda trial: trial["values"][0])  # of equal ones the first that ended
    assert (found.best.number, found.best_value) == (best["number"], best["values"][0])
    assert [trial.params for trial in found.trials] == [told[number]["params"] for number in range(TRIALS)]
    built = Counter(" ".join(line.split()[2:]) for line in pids.read_text().splitlines())
    asked_for = Counter(f"{t['params']['max_depth']} {t['params']['min_samples_leaf']}" for t in told.values())
    # What began again had no end: at most the two at work for each kill, and one that its caller built to look at it.
    assert sum((built - asked_for).values()) <= 2 * len(killed) + 2

    said = CliRunner().invoke(app, ["run", "get", found.run.id], env={"TERMINAL_WIDTH": "200"})
    assert said.exit_code == 0 and "best" in said.stdout and "min_samples_leaf" in said.stdout
