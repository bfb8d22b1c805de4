"""A Run that waits: followed, interrupted, cancelled; and how its end becomes an error."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import leptonai
from leptonai.core.errors import Busy, FieldError, Invalid, LeptonError, RunCancelled, RunFailed
from leptonai.core.nouns import Run as RunRecord
from leptonai.core.states import RunState
from leptonai.sdk import client, runs
from leptonai.sdk.client import Client
from leptonai.sdk.runs import Run


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server without an agent: what is asked for there waits."""
    home = tmp_path_factory.mktemp("idle") / "home"
    command = [sys.executable, "-m", "leptonai.server", "--home", str(home), "--no-agent"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (home / "server.json").exists() and time.monotonic() < until:
            time.sleep(0.05)
        made = client.connect(home=home)
        made.http.call("GET", "/me")
        yield made
    finally:
        client.disconnect()
        server.terminate()
        server.wait(20)


@pytest.fixture
def waiting(idle: Client) -> Iterator[Run]:
    """A Run that no agent takes."""
    blob = idle.http.upload(b"a,label\n1,2\n")
    spec = {"name": "waits", "files": [{"name": "a.csv", "size": 12, "parts": [blob]}]}
    run = Run(runs.submit(idle.http, "import", spec, name="waits"), idle)
    yield run
    run.cancel()


def interrupt_soon() -> None:
    """Press Ctrl-C in half a second."""
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()


def interrupt_once_there(idle: Client, name: str) -> None:
    """Press Ctrl-C half a second after a Run of this name is there, however long that takes."""

    def look() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not list(idle.http.pages("/runs", {"name": name})):
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=look).start()


def test_ctrl_c_cancels_the_run_and_says_so(waiting: Run) -> None:
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt, match=f"run {waiting.id} is cancelled"):
        waiting.wait()
    assert waiting.refresh().record.state is RunState.CANCELLED
    with pytest.raises(RunCancelled, match=waiting.id):
        waiting.wait()


def test_ctrl_c_in_a_dataset_leaves_nothing(idle: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,label\n1,2\n3,4\n")
    interrupt_once_there(idle, "half-done")
    with pytest.raises(KeyboardInterrupt, match="is cancelled"):
        leptonai.create_dataset("half-done", files=path)
    assert list(idle.http.pages("/datasets")) == []
    assert [run.state for run in runs.list_runs(name="half-done")] == [RunState.CANCELLED]


def test_ctrl_c_on_the_command_line_is_one_line_and_code_1(
    waiting: Run, idle: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    from leptonai.cli import main

    waiting.cancel()
    interrupt_soon()
    try:
        assert main.run_command(["--home", str(idle.home), "run", "retry", waiting.id]) == 1
    finally:
        client._current = idle  # the command closed its own
        idle.http.call("GET", "/me")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("lepton: run run_")
    assert lines[0].endswith("is cancelled")


def test_a_run_is_followed_while_it_waits(waiting: Run) -> None:
    assert waiting.state is RunState.QUEUED
    assert waiting.result is None
    assert [run.id for run in runs.list_runs(name="waits", state="queued")] == [waiting.id]
    seen: list[object] = []
    follower = threading.Thread(target=lambda: seen.extend([*waiting.events(follow=True), "end"]))
    follower.start()
    time.sleep(0.3)
    assert seen[-1:] != ["end"]
    Run(waiting.record, waiting._client).cancel()
    follower.join(20)
    assert seen[-1] == "end"
    assert waiting.state is RunState.CANCELLED


def ended(state: str, error: dict[str, object] | None = None) -> RunRecord:
    return RunRecord.new(stage="train", spec={}, state=RunState(state), error=error)


def test_how_a_run_ended_is_what_is_raised() -> None:
    assert runs.succeeded(ended("succeeded")).state is RunState.SUCCEEDED
    with pytest.raises(RunCancelled):
        runs.succeeded(ended("cancelled"))
    own = Invalid("row 7 is ragged", errors=[FieldError("row 7", "3 columns")], file="a.csv")
    with pytest.raises(Invalid, match="row 7 is ragged") as caught:
        runs.succeeded(record := ended("failed", own.to_dict()))
    assert caught.value.errors == own.errors
    assert caught.value.about == {"file": "a.csv", "run": record.id}
    with pytest.raises(RunFailed, match="it broke"):
        runs.succeeded(ended("failed", LeptonError("it broke").to_dict()))
    with pytest.raises(RunFailed):
        runs.succeeded(ended("failed"))
    with pytest.raises(Busy):
        runs.succeeded(ended("failed", Busy("later", retry_after=3).to_dict()))
