"""The server of this machine: one for all who use it, gone when nobody does, however they went."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from leptonai.core import settings
from leptonai.core.errors import Conflict, MissingExtra, Unavailable
from leptonai.sdk import embedded
from leptonai.sdk.embedded import ensure
from leptonai.sdk.http import Http

CLIENT = """
import sys, time
from pathlib import Path
from leptonai.sdk.embedded import ensure
from leptonai.sdk.http import Http
found = ensure(Path(sys.argv[1]))
http = Http(found.url, found.token)
print(http.call("GET", "/me")["name"], found.url, found._pid, flush=True)
sys.stdin.readline()
http.close()
found.close()
"""


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTONAI_WARM", "none")


class Client:
    """Another program that uses the server."""

    def __init__(self, home: Path):
        self.popen = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=settings.environment(LEPTONAI_WARM="none"),
        )  # fmt: skip

    def says(self) -> tuple[str, int]:
        """Return the URL and the process of its server."""
        assert self.popen.stdout is not None
        name, url, pid = self.popen.stdout.readline().split()
        assert name == "local"
        return url, int(pid)

    def end(self) -> None:
        self.popen.communicate("\n", timeout=30)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    assert gone(tmp_path / "home", 10), "a server was left behind"


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone(home: Path, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not embedded._runs(home):
            return True
        time.sleep(0.02)
    return False


def test_it_starts_answers_and_stops_at_once(home: Path) -> None:
    found = ensure(home)
    assert found.private
    http = Http(found.url, found.token)
    assert http.call("GET", "/me")["name"] == "local"
    http.close()
    facts = json.loads((home / "server.json").read_text())
    children = psutil.Process(facts["pid"]).children(recursive=True)
    start = time.monotonic()
    found.close()
    assert time.monotonic() - start < 15
    assert not alive(facts["pid"])
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert not (home / "server.json").exists()
    found.close()  # twice is once


def test_two_programs_that_start_at_once_share_one_server(home: Path) -> None:
    clients = [Client(home) for _ in range(3)]
    said = {client.says() for client in clients}
    assert len(said) == 1
    ((_, pid),) = said
    clients[0].end()
    clients[1].kill()
    time.sleep(1.0)
    assert alive(pid), "one uses it still"
    clients[2].end()
    assert gone(home, 5)


def test_threads_that_start_at_once_share_one_server(home: Path) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(ensure(home))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.url for one in found}) == 1
    for one in found:
        one.close()


def test_the_server_ends_after_its_client_was_killed(home: Path) -> None:
    client = Client(home)
    _, pid = client.says()
    client.kill()
    assert gone(home, 8)
    until = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_server_is_started_again(home: Path) -> None:
    first = ensure(home)
    os.kill(json.loads((home / "server.json").read_text())["pid"], signal.SIGKILL)
    again: list[Any] = []

    def revive() -> tuple[str, str]:
        again.append(ensure(home))
        return again[-1].url, again[-1].token

    http = Http(first.url, first.token, revive=revive)
    assert http.call("GET", "/me")["name"] == "local"
    http.close()
    assert again[0].url != first.url or again[0].token != first.token
    first.close()
    assert embedded._runs(home), "the other one holds it"
    again[0].close()


def test_a_forked_child_keeps_no_server_alive(home: Path) -> None:
    found = ensure(home)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        time.sleep(30)
        os._exit(0)
    try:
        found.close()
        assert not embedded._runs(home)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_server_that_somebody_keeps_is_used_and_left_alone(home: Path) -> None:
    command = [sys.executable, "-P", "-m", "leptonai.server", "--home", str(home), "--no-agent"]
    kept = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (home / "server.json").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        found = ensure(home)
        assert not found.private
        found.close()
        time.sleep(0.6)
        assert kept.poll() is None
    finally:
        kept.terminate()
        kept.wait(20)


def test_a_server_of_another_version_is_named(home: Path) -> None:
    found = ensure(home)
    path = home / "server.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "version": "9.9"}))
    with pytest.raises(Conflict, match=rf"leptonai 9\.9.*kill {facts['pid']}"):
        ensure(home)
    path.write_text(json.dumps(facts))
    found.close()


def test_why_a_server_did_not_start(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (home / "kek.key").write_text("broken")
    (home / "kek.key").chmod(0o600)
    with pytest.raises(Unavailable, match=r"did not start: .*kek\.key is damaged") as caught:
        ensure(home)
    assert "\n" not in caught.value.message
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="LEPTONAI_HOME"):
        ensure(tmp_path / "file")


def test_a_client_without_a_server_installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_NEEDED", ("no_such_module",))
    with pytest.raises(MissingExtra, match=r"pip install 'lepton-ai-sdk\[platform\]'.*LEPTONAI_HOST") as caught:
        ensure(home)
    assert "\n" not in caught.value.message


def test_ctrl_c_during_the_start_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_facts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded._wait(home, embedded._start(_made(home)))


def _made(home: Path) -> Path:
    home.mkdir()
    return home
