"""What is killed, and what must live on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.site import Home, alive, until

from leptonai.core import settings


def test_everything_dies_with_a_server_that_is_killed(home: Home, tmp_path: Path) -> None:
    home.start()
    home.run("sleep", spec={"path": str(tmp_path / "pid")})
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    (agent,) = home.children("leptonai.agent")
    home.stop(kill=True)
    until(lambda: not alive(agent), 10)
    until(lambda: not alive(pid), 10)
    assert home.children("") == []


def test_an_agent_that_is_killed_is_replaced_and_its_run_taken_up(home: Home, tmp_path: Path) -> None:
    home.start()
    id = home.run("sleep", spec={"path": str(tmp_path / "pid"), "seconds": 3})
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    (agent,) = home.children("leptonai.agent")
    os.kill(agent, signal.SIGKILL)
    until(lambda: not alive(pid), 10)
    run = home.ended(id, 60)
    assert (run["state"], run["attempt"]) == ("succeeded", 2)


def test_an_agent_that_is_asked_to_stop_gives_its_runs_back_within_seconds(home: Home, tmp_path: Path) -> None:
    home.start()
    id = home.run("sleep", spec={"path": str(tmp_path / "pid")})
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    (agent,) = home.children("leptonai.agent")
    (tmp_path / "pid").unlink()
    start = time.monotonic()
    os.kill(agent, signal.SIGTERM)
    until(lambda: not alive(agent), 10)
    assert time.monotonic() - start < 6  # the lease: without a word the next one would wait that long
    assert not alive(pid)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())  # the next agent took it up
    assert home.record(id)["attempt"] == 2
    home.http.call("POST", f"/runs/{id}/cancel")
    assert home.ended(id)["state"] == "cancelled"


def test_a_run_lives_through_a_restart_of_the_server(home: Home, tmp_path: Path) -> None:
    """An agent that was started by hand, not by the server, goes on; so does its Run's process."""
    home.start("--no-agent")
    key = home.http.call("POST", "/keys", json={"name": "site", "scopes": ["site:agent"]})["secret"]
    environment = settings.environment(
        LEPTONAI_HOST=home.http.base_url, LEPTONAI_API_KEY=key, LEPTONAI_HOME=str(tmp_path / "site"), LEPTONAI_WARM="none",
        LEPTONAI_LEASE_SECONDS="6", PYTHONPATH=home._environment["PYTHONPATH"],
    )  # fmt: skip
    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            [sys.executable, "-m", "leptonai.agent"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        id = home.run("sleep", spec={"path": str(tmp_path / "pid"), "seconds": 4})
        pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        home.stop()
        time.sleep(0.5)
        home.start("--no-agent")
        run = home.ended(id)
        assert (run["state"], run["attempt"]) == ("succeeded", 1), (tmp_path / "agent.log").read_text()
        assert int((tmp_path / "pid").read_text()) == pid
        assert home.ended(home.run("nothing"))["state"] == "succeeded"
    finally:
        agent.terminate()
        assert agent.wait(20) == 0


def test_an_agent_that_does_not_know_its_server_says_so(tmp_path: Path) -> None:
    environment = settings.environment(LEPTONAI_HOME=str(tmp_path), HOME=str(tmp_path))
    environment.pop("LEPTONAI_HOST", None)
    done = subprocess.run(
        [sys.executable, "-m", "leptonai.agent"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "the agent does not know its server: give --host or LEPTONAI_HOST\n"


def test_a_process_that_was_frozen_past_its_lease_writes_nothing_more(home: Home, tmp_path: Path) -> None:
    home.start()
    id = home.run("sleep", spec={"path": str(tmp_path / "pid"), "seconds": 2})
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    (agent,) = home.children("leptonai.agent")
    os.kill(agent, signal.SIGSTOP)
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: home.record(id)["attempt"] == 2)  # given out again, to a poll of the same agent
    finally:
        os.kill(pid, signal.SIGCONT)
        os.kill(agent, signal.SIGCONT)
    until(lambda: not alive(pid), 10)
    run = home.ended(id, 60)
    assert (run["state"], run["attempt"]) == ("succeeded", 2)
