"""Two servers on one PostgreSQL, ten agents that pull at once, random kills: nothing is lost, nothing is done twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.support.postgres import Postgres, postgres

from leptonai.core import plugins
from leptonai.core.nouns import Run
from leptonai.core.stages import Plan
from leptonai.core.states import RunState
from leptonai.runs.queue import Asked, Queue

LEASE = 2.0

# A server is a Queue of its own on the database, as the server process has it; five agents share each. An agent claims,
# says what it does (each line of the series is one unit of work), and finishes with what it counted.
AGENT = """
import os, random, sys, threading, time
from leptonai.core import plugins
from leptonai.core.errors import LeptonError
from leptonai.core.nouns import Event
from leptonai.core.states import RunState
from leptonai.runs.queue import Queue
url, name, lease = sys.argv[1], sys.argv[2], float(sys.argv[3])
queue = Queue(plugins.catalog(url), lease_seconds=lease)
rng = random.Random(name)
print("ready", flush=True)
while True:
    claim = queue.claim("home", name)
    if claim is None:
        time.sleep(0.05)
        continue
    run = claim.run
    try:
        for step in range(3):
            queue.append(run.id, run.epoch, [Event(stream="log", body={"epoch": run.epoch, "step": step})])
            time.sleep(rng.uniform(0, 0.05))
        queue.heartbeat(name, [(run.id, run.epoch)])
        queue.finish(run.id, run.epoch, RunState.SUCCEEDED, result={"epoch": run.epoch, "agent": name})
    except LeptonError:
        continue
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


def start(url: str, number: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", AGENT, url, f"agent-{number}", str(LEASE)], stdout=subprocess.PIPE, text=True
    )


def soak(url: str, runs: int, agents: int, kills: int) -> None:
    catalog = plugins.catalog(url)
    queues = [Queue(catalog, lease_seconds=LEASE), Queue(plugins.catalog(url), lease_seconds=LEASE)]
    ids = [queues[i % 2].submit(Asked("train", max_attempts=50), Plan({"number": i}, ())).id for i in range(runs)]
    working = {number: start(url, number) for number in range(agents)}
    rng = random.Random(3)
    try:
        until, killed = time.monotonic() + 120, 0
        left = set(ids)
        while left and time.monotonic() < until:
            time.sleep(rng.uniform(0.02, 0.15))
            at_work = [run.agent for run in catalog.find(Run, {"state": "running"})]
            if killed < kills and at_work:
                number = int(str(rng.choice(at_work)).removeprefix("agent-"))
                os.kill(working[number].pid, signal.SIGKILL)
                working[number].communicate()
                working[number] = start(url, number)
                killed += 1
            for queue in queues:
                queue.expire()
            left = {run.id for run in catalog.find(Run, {"state": ("queued", "running", "stopping")}, limit=1000)}
        assert not left, f"{len(left)} runs were lost"
    finally:
        for process in working.values():
            process.kill()
            process.communicate()
    taken_again = 0
    for id in ids:
        run = catalog.get(Run, id)
        assert run.state is RunState.SUCCEEDED
        assert run.result is not None
        # The result is that of the last lease, and that attempt's work is whole and the last in the series.
        assert run.result["epoch"] == run.epoch == run.attempt
        work = [(event.body["epoch"], event.body["step"]) for event in catalog.series(id, streams=("log",))]
        assert work[-3:] == [(run.epoch, step) for step in range(3)]
        assert work == sorted(work)
        taken_again += run.epoch > 1
    assert len(catalog.find(Run, limit=1000)) == runs
    assert killed > kills / 2
    assert taken_again > 0, "the kills hit nobody at work: the test has shown nothing"
    catalog.close()  # type: ignore[attr-defined]
    queues[1]._catalog.close()  # type: ignore[attr-defined]


def test_two_servers_and_ten_agents_with_kills_lose_and_double_nothing(server: Postgres) -> None:
    soak(server.database(), runs=150, agents=10, kills=12)


@pytest.mark.slow
def test_the_same_for_long(server: Postgres) -> None:
    soak(server.database(), runs=900, agents=10, kills=80)
