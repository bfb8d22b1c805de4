"""A search for a model whose processes are killed: it goes on after what was judged, tries nothing twice, and finds the same."""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.support.cancer import dataset

import leptonai

# More than enough time: what is found must not hang on how busy the machine is.
ASKED: dict[str, Any] = {"families": ("linear", "lightgbm", "forest", "blend"), "candidates": 6, "budget": 1800}


def above(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def worker_of(home: Path) -> int:
    """Return the process that tries candidates: it works in a folder of its own. 0 where there is none."""
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            here = place.readlink()
        except OSError:  # of somebody else, or gone
            continue
        if here.name.startswith("tried-") and here.is_relative_to(home.resolve()):
            return int(place.parent.name)
    return 0


def victim(who: str, worker: int) -> int:
    run = above(above(worker))  # above the worker is what forked it
    return run if who == "run" else above(above(run))  # above the Run its fork server, and then the agent


def killer(home: Path, run: "leptonai.Run", whose: tuple[str, ...], killed: list[tuple[str, int]]) -> None:
    """Kill one after the other, each once another candidate was judged and the next one is at work."""
    until, seen = time.monotonic() + 240, 0
    for who in whose:
        while time.monotonic() < until:
            time.sleep(0.02)
            journal = [event.body for event in run.events("trial")]
            told = sum(entry["kind"] == "told" for entry in journal)
            if told <= seen or journal[-1]["kind"] != "asked" or not (worker := worker_of(home)):
                continue
            try:
                os.kill(victim(who, worker), signal.SIGKILL)
            except (OSError, ValueError):  # it has ended by itself
                continue
            killed.append((who, told))
            seen = told
            break


@pytest.mark.slow
def test_a_killed_search_goes_on_and_finds_the_same(home: Path, tmp_path: Path) -> None:
    data = dataset(tmp_path)
    whole = leptonai.auto(data, **ASKED, verbose=0)

    killed: list[tuple[str, int]] = []
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(leptonai.auto(data, **ASKED, verbose=0)))
    thread.start()
    while (run := leptonai.list_runs(stage="auto", limit=1)[0]).id == whole.run.id:
        time.sleep(0.02)
    killer(home, run, ("run", "agent"), killed)
    thread.join()
    assert [who for who, _ in killed] == ["run", "agent"] and found
    again = found[0]
    assert again.run.id == run.id and again.run.record.attempt == 3

    journal = [event.body for event in run.events("trial")]
    told = Counter(entry["candidate"]["number"] for entry in journal if entry["kind"] == "told")
    assert set(told) == {line.number for line in whole.record.leaderboard} and set(told.values()) == {1}
    asked = Counter(entry["number"] for entry in journal if entry["kind"] == "asked")
    assert sum(asked.values()) <= len(asked) + len(killed)  # only what was at work began again
    assert f"{killed[0][1]} candidates are known" in "\n".join(run.logs())

    def judged(one: Any) -> dict[str, tuple[float, ...]]:
        return {line.name: line.scores for line in one.record.leaderboard}

    assert judged(again) == judged(whole)
    assert again.chosen.name == whole.chosen.name
    assert again.tested["metrics"] == whole.tested["metrics"]
