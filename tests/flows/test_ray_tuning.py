"""A study on a Ray cluster of two nodes: its trials are on both, and a node that is killed costs none and runs none twice."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.ray_cluster import TwoNodes, two_nodes
from tests.support.warm import libraries

import leptonai
from leptonai.sdk import client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("ray")
TRIALS = 14


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    libraries()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TwoNodes]:
    with two_nodes(tmp_path / "node") as found:
        client.connect(home=tmp_path / "home")
        rows = [f"{a},{b},{'yes' if (a * b) % 7 > 3 else 'no'}" for a in range(20) for b in range(20)]
        (tmp_path / "t.csv").write_text("a,b,label\n" + "\n".join(rows) + "\n")
        leptonai.create_dataset("t", files=tmp_path / "t.csv", target="label")
        yield found
        client.disconnect()


def build_with(note: str) -> Callable[[dict], object]:
    """Return a function that builds models, and notes on which node that is, and with what."""

    def build(params: dict) -> object:
        import os
        import time
        from pathlib import Path

        from sklearn.tree import DecisionTreeClassifier

        with Path(note).open("a") as file:
            file.write(f"{os.getpid()} {Path.cwd()} {params['max_depth']} {params['min_samples_leaf']}\n")
        until = time.monotonic() + 200
        while "/node/ray/" in str(Path.cwd()) and time.monotonic() < until:  # until there is one at work on each node
            if len({line.split()[0] for line in Path(note).read_text().splitlines() if "/node/ray/" in line}) > 1:
                break
            time.sleep(0.05)
        time.sleep(0.5)
        return DecisionTreeClassifier(**params, random_state=0)

    return build


def test_a_killed_node_loses_no_trial_and_runs_none_twice(cluster: TwoNodes, tmp_path: Path) -> None:
    note = tmp_path / "note"
    note.touch()
    seen: list[set[str]] = []

    def lose() -> None:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            lines = note.read_text().splitlines()
            places = {line.split()[1] for line in lines if "/node/ray/" in line}  # the caller tries it, too
            if len(lines) >= 5 and len(places) == 2:
                seen.append(places)
                cluster.lose()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=lose)
    thread.start()
    space = {"max_depth": (1, 12), "min_samples_leaf": (1, 100, "log")}
    found = leptonai.Model().tune(
        space, data="t", goal="val_accuracy", budget=TRIALS, build=build_with(str(note)), verbose=0
    )
    thread.join()
    assert seen
    places = {line.split()[1] for line in note.read_text().splitlines()} - {str(Path.cwd())}
    assert len(places) >= 2 and all("/node/ray/" in place for place in places), places  # none at the agent's own
    assert found.run.record.attempt == 1
    events = [event.body for event in found.run.events("trial")]
    told = {e["trial"]["number"]: e["trial"] for e in events if e["kind"] == "told"}
    assert sorted(told) == list(range(TRIALS)) and all(trial["state"] == "done" for trial in told.values()), told
    assert Counter(e["number"] for e in events if e["kind"] == "asked") == Counter(range(TRIALS))
    assert Counter(e["trial"]["number"] for e in events if e["kind"] == "told") == Counter(range(TRIALS))
    built = Counter(" ".join(line.split()[2:]) for line in note.read_text().splitlines())
    asked_for = Counter(f"{t['params']['max_depth']} {t['params']['min_samples_leaf']}" for t in told.values())
    assert (
        sum((built - asked_for).values()) <= 4
    )  # the trial that was at work began again; building it to look at it counts, too
    logs = list(found.run.logs())
    assert any("its machine was lost" in line for line in logs), logs
