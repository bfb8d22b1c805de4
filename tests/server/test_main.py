"""The server as a process: its first key, its lock, its port, its end; and what it never leaves in a log."""

import contextlib
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from leptonai.core import settings
from leptonai.core.errors import DiskFull
from leptonai.sdk.http import Http


class Process:
    """A server process on a home folder."""

    def __init__(self, home: Path, *arguments: str, agent: bool = False, **more: Any):
        self.home = home
        command = [sys.executable, "-P", "-m", "leptonai.server", "--home", str(home), *arguments]
        self.popen = subprocess.Popen(
            command if agent else [*command, "--no-agent"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=settings.environment(LEPTONAI_WARM="none"), **more,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Return server.json, once it is there."""
        until = time.monotonic() + 60
        while time.monotonic() < until and self.popen.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                found = json.loads((self.home / "server.json").read_text())
                if found["pid"] == self.popen.pid:
                    return dict(found)
            time.sleep(0.01)
        raise AssertionError(f"it did not start: {self.popen.communicate()}")

    def end(self, number: int = signal.SIGTERM) -> tuple[str, str]:
        """Stop it and return what it said."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.communicate(timeout=20)


@contextlib.contextmanager
def server(home: Path, *arguments: str, **more: Any) -> Iterator[Process]:
    """Run a server."""
    made = Process(home, *arguments, **more)
    try:
        yield made
    finally:
        made.end(signal.SIGKILL)


def key_of(said: str) -> list[str]:
    return re.findall(r"lepton_key_\w+", said)


def test_the_admin_key_is_printed_once_and_lies_in_no_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with server(home) as one:
        facts = one.facts()
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "server.json").stat().st_mode) == 0o600
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", facts["url"])
        out, err = one.end()
        assert one.popen.returncode == 0
    (secret,) = key_of(out + err)
    assert not (home / "server.json").exists()
    for file in home.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes()
    with server(home) as two:
        http = Http(two.facts()["url"], secret)
        assert http.call("GET", "/me") == {"name": "admin", "scopes": ["*"]}
        http.close()
        out, err = two.end(signal.SIGINT)
        assert key_of(out + err) == []
        assert two.popen.returncode == 0
        assert facts["token"] not in (home / "logs" / "server.log").read_text()


def test_a_second_server_says_which_one_runs(tmp_path: Path) -> None:
    with server(tmp_path / "home") as one:
        facts = one.facts()
        other = Process(tmp_path / "home")
        _, err = other.popen.communicate(timeout=30)
        assert other.popen.returncode == 1
        assert err.strip().count("\n") == 0
        assert str(facts["pid"]) in err
        assert facts["url"] in err
        assert json.loads((tmp_path / "home" / "server.json").read_text()) == facts


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "--insecure"), (["--host", "192.0.2.1", "--insecure"], "cannot be listened on"),
        (["--tls-key", "/nowhere"], "--tls-certificate"), (["--port", "99999"], "no such port"),
        (["--tls-key", "/nowhere", "--tls-certificate", "/nowhere"], "no file /nowhere"),
    ],
)  # fmt: skip
def test_what_is_refused_at_the_start_is_one_sentence(tmp_path: Path, arguments: list[str], says: str) -> None:
    with server(tmp_path / "home", *arguments) as one:
        _, err = one.popen.communicate(timeout=30)
    assert one.popen.returncode == 1
    assert says in err
    assert err.strip().count("\n") == 0
    assert not (tmp_path / "home" / "server.json").exists()


def test_files_that_are_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("x")
    with server(tmp_path / "home", "--tls-key", str(file), "--tls-certificate", str(file)) as one:
        _, err = one.popen.communicate(timeout=30)
    assert "TLS cannot be set up" in err


def test_a_home_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with server(tmp_path / "file") as one:
        _, err = one.popen.communicate(timeout=30)
    assert "LEPTONAI_HOME" in err
    assert "Traceback" not in err


def test_a_broken_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "kek.key").write_text("x")
    (tmp_path / "kek.key").chmod(0o600)
    with server(tmp_path) as one:
        _, err = one.popen.communicate(timeout=30)
    assert "kek.key is damaged" in err
    assert "Traceback" not in err


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
            return True
        time.sleep(0.02)
    return False


def with_agent(one: Process) -> list[psutil.Process]:
    facts = one.facts()
    http = Http(facts["url"], facts["token"])
    until = time.monotonic() + 60
    while http.call("GET", "/sites/home")["seen"] is None:
        assert time.monotonic() < until, (one.home / "logs" / "agent.log").read_text()
        time.sleep(0.05)
    http.close()
    found = family(one.popen.pid)
    assert found
    return found


def test_sigterm_ends_everything_soon(tmp_path: Path) -> None:
    with server(tmp_path, agent=True) as one:
        children = with_agent(one)
        start = time.monotonic()
        one.end()
        assert time.monotonic() - start < 15  # 3 s, and some for a busy machine
        assert gone(children, 5)


def test_the_agent_dies_with_its_server_and_is_started_again_when_it_dies_alone(tmp_path: Path) -> None:
    with server(tmp_path, agent=True) as one:
        first = with_agent(one)
        agent = next(p for p in first if "leptonai.agent" in p.cmdline())
        agent.kill()
        until = time.monotonic() + 30
        while not (
            again := [p for p in family(one.popen.pid) if p.pid != agent.pid and "leptonai.agent" in p.cmdline()]
        ):
            assert time.monotonic() < until
            time.sleep(0.05)
        everything = family(one.popen.pid)
        assert again
        one.end(signal.SIGKILL)
        assert gone(everything, 8)


def test_a_full_disk_is_said_and_the_server_goes_on(tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))

    with server(tmp_path, preexec_fn=small_files) as one:
        facts = one.facts()
        http = Http(facts["url"], facts["token"])
        with pytest.raises(DiskFull):
            http.upload(os.urandom(9 << 20))
        blob = http.upload(b"small")
        assert http.download(blob) == b"small"
        http.close()
        assert "Traceback" not in (tmp_path / "logs" / "server.log").read_text()


def test_after_kill_9_it_starts_again_with_everything(tmp_path: Path) -> None:
    with server(tmp_path) as one:
        facts = one.facts()
        http = Http(facts["url"], facts["token"])
        blob = http.upload(b"kept")
        http.close()
        one.end(signal.SIGKILL)
    assert (tmp_path / "server.json").exists()
    with server(tmp_path) as two:
        http = Http(two.facts()["url"], two.facts()["token"])
        assert http.download(blob) == b"kept"
        assert two.facts()["token"] != facts["token"]
        http.close()
