"""Two servers on one PostgreSQL, ten agents that pull at once; agents and servers are killed, agents sleep through their
leases and wake: nothing is lost, nothing is done twice."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.postgres import Postgres, postgres

from leptonai.core import plugins
from leptonai.core.nouns import Run
from leptonai.core.ports import Catalog
from leptonai.core.stages import Plan
from leptonai.core.states import RunState
from leptonai.runs.queue import Asked, Queue

LEASE = 2.0
STEPS = 3
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


class Crowd:
    """The processes: servers and agents by name, killed and started again as the test likes."""

    def __init__(self, url: str, folder: str, agents: int):
        self._sockets = [f"{folder}/{letter}" for letter in "ab"]  # short: the names of sockets may not be long
        self._commands = {
            **{s: ["tests.runs.engine_server", s, url, str(LEASE)] for s in self._sockets},
            **{f"agent-{i}": ["tests.runs.engine_agent", f"agent-{i}", *self._sockets] for i in range(agents)},
        }
        self._alive: dict[str, subprocess.Popen[bytes]] = {}
        self._asleep: dict[str, float] = {}  # who, and until when
        for name in self._commands:
            self._start(name)
        for name in self._sockets:
            out = self._alive[name].stdout
            assert out is not None
            assert out.readline() == b"ready\n"

    def _start(self, name: str) -> None:
        command = [sys.executable, "-m", *self._commands[name]]
        out = subprocess.PIPE if name in self._sockets else subprocess.DEVNULL
        self._alive[name] = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        """Kill one (SIGKILL), and start it again."""
        self._asleep.pop(name, None)
        self._end(self._alive.pop(name))
        self._start(name)

    def kill_a_server(self, rng: random.Random) -> None:
        self.kill(rng.choice(self._sockets))

    def put_to_sleep(self, name: str) -> None:
        """Stop an agent in the middle of what it does until its lease has run out (SIGSTOP)."""
        os.kill(self._alive[name].pid, signal.SIGSTOP)
        self._asleep[name] = time.monotonic() + 1.3 * LEASE

    def wake(self, *, all_of_them: bool = False) -> None:
        """Let those go on whose time has come (SIGCONT)."""
        for name, until in [*self._asleep.items()]:
            if all_of_them or until < time.monotonic():
                os.kill(self._alive[name].pid, signal.SIGCONT)
                del self._asleep[name]

    def close(self) -> None:
        for process in self._alive.values():
            self._end(process)

    @staticmethod
    def _end(process: "subprocess.Popen[bytes]") -> None:
        assert process.poll() is None, "it ended by itself"
        process.kill()
        process.communicate()


def soak(url: str, runs: int, agents: int, kills: int) -> None:
    catalog = plugins.catalog(url)
    queue, rng = Queue(catalog, lease_seconds=LEASE), random.Random()
    ids = [queue.submit(Asked("train", max_attempts=50), Plan({"number": i}, ())).id for i in range(runs)]
    with tempfile.TemporaryDirectory(prefix="lq") as folder:
        crowd = Crowd(url, folder, agents)
        try:
            killed = _kill_until_done(catalog, crowd, rng, kills)
        finally:
            crowd.close()
    assert len(catalog.find(Run, limit=runs + 1)) == runs
    again = sum(_done_once(catalog, id) for id in ids)
    assert killed == kills
    assert again > 0, "the kills hit nobody at work: the test has shown nothing"
    catalog.close()  # type: ignore[attr-defined]


def _kill_until_done(catalog: Catalog, crowd: Crowd, rng: random.Random, kills: int) -> int:
    until, killed = time.monotonic() + 60 + 2 * kills, 0
    while time.monotonic() < until:
        time.sleep(rng.uniform(0.02, 0.15))
        left = catalog.find(Run, {"state": ("queued", "running", "stopping")}, limit=1000)
        crowd.wake()
        if not left:
            crowd.wake(all_of_them=True)
            time.sleep(0.5)  # for what they still have to say
            return killed
        at_work = [run.agent for run in left if run.state is RunState.RUNNING and run.agent is not None]
        if killed < kills and at_work:
            killed += 1
            if killed % 4 == 0:
                crowd.kill_a_server(rng)
            else:
                (crowd.kill if killed % 2 else crowd.put_to_sleep)(rng.choice(at_work))
    pytest.fail(f"{len(left)} runs were lost")


def _done_once(catalog: Catalog, id: str) -> bool:
    """Check one Run; say whether it took more than one attempt."""
    run = catalog.get(Run, id)
    assert run.state is RunState.SUCCEEDED
    assert run.result is not None
    # The result is that of the last lease; its work is whole, there once, and nobody wrote after it.
    assert run.result["epoch"] == run.epoch == run.attempt
    work = [(event.body["epoch"], event.body["step"]) for event in catalog.series(id, streams=("log",))]
    assert work[-STEPS:] == [(run.epoch, step) for step in range(STEPS)]
    assert work == sorted(set(work))
    moves = [event.body["state"] for event in catalog.series(id, streams=("state",))]
    assert moves.count("running") == run.epoch
    assert [move for move in moves if RunState(move).ended] == moves[-1:] == ["succeeded"]
    return run.epoch > 1


def test_two_servers_and_ten_agents_with_kills_lose_and_double_nothing(server: Postgres) -> None:
    soak(server.database(), runs=150, agents=10, kills=16)


@pytest.mark.slow
def test_the_same_for_long(server: Postgres) -> None:
    soak(server.database(), runs=900, agents=10, kills=80)
