"""The server of this machine: found by its home folder, or started there, and stopped when nobody uses it.

Three locks in the home folder, all of the kernel's, so that none outlives its holder::

    server.lock    held by the running server
    start.lock     held by whoever looks for the server, or starts it: two programs that start at once get one server
    clients.lock   shared by all programs that use it; who gets it alone knows that nobody does, and may stop the server
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TextIO

from leptonai import __version__
from leptonai.core import settings
from leptonai.core.errors import Conflict, DiskFull, LeptonError, MissingExtra, Unavailable
from leptonai.sdk.http import Http, load_ahead

_START_SECONDS = 60.0
_STOP_SECONDS = 8.0
_LOOK_SECONDS = 0.005
_NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "cryptography", "pysqlite3")


class _Facts(NamedTuple):
    """What a running server says of itself in server.json."""

    url: str
    pid: int
    token: str
    version: str
    embedded: bool


class Embedded:
    """A server on this machine that this process uses. `private`: it lives only while somebody uses it."""

    def __init__(self, facts: _Facts, lock: TextIO, home: Path, process: "subprocess.Popen[bytes] | None"):
        self.url = facts.url
        self.token = facts.token
        self.private = facts.embedded
        self._pid = facts.pid
        self._lock = lock
        self._home = home
        self._process = process

    def close(self) -> None:
        """Let go of it; the last one to let go of a private server stops it, and returns when it is gone."""
        if self._lock.closed:
            return
        try:
            # Let go first: a child that was forked holds the same lock, and must not keep the server alive.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            if self.private and _try(self._lock, fcntl.LOCK_EX):
                self._stop()  # with the lock held: who comes now waits, and then starts a server of its own
        finally:
            self._lock.close()
        if self._process is not None and self._process.poll() is None:
            self._process.returncode = 0  # others use it still, and it outlives this program: nobody is to wait for it

    def _stop(self) -> None:
        facts = _facts(self._home)
        if facts is None or facts.pid != self._pid or not _runs(self._home):
            return
        until = time.monotonic() + _STOP_SECONDS
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
            while _runs(self._home) and time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
            if not _runs(self._home):
                break
            until = time.monotonic() + 1.0
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)


def ensure(home: Path) -> Embedded:
    """Find the server of a home folder, or start one. Raises `MissingExtra`, `Unavailable`, `Conflict`."""
    with contextlib.ExitStack() as undo:
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = undo.enter_context((home / "clients.lock").open("a"))
            alone = undo.enter_context((home / "start.lock").open("a"))
        except OSError as error:
            raise Unavailable(
                f"the home folder {home} cannot be used: {error.strerror}; set LEPTONAI_HOME to one that can"
            ) from error
        deadline = time.monotonic() + _START_SECONDS
        # Held while this process lives, and let go by the kernel should it be killed. Waits while a server ends.
        _get(lock, fcntl.LOCK_SH, deadline, home)
        _get(alone, fcntl.LOCK_EX, deadline, home)
        facts, process = _found(home), None
        if facts is None:
            process = _start(home)
            load_ahead()
            facts = _wait(home, process)
        fcntl.flock(alone, fcntl.LOCK_UN)
        alone.close()
        if facts.version != __version__:
            raise Conflict(
                f"the server of {home} is leptonai {facts.version}, and this program is {__version__}: "
                f"stop that server (kill {facts.pid}) and try again, or set LEPTONAI_HOME to another folder"
            )
        undo.pop_all()
        return Embedded(facts, lock, home, process)


def _try(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _get(file: TextIO, kind: int, deadline: float, home: Path) -> None:
    while not _try(file, kind):
        if time.monotonic() > deadline:
            raise Unavailable(f"the server of {home} neither starts nor stops: see {home / 'logs' / 'server.log'}")
        time.sleep(_LOOK_SECONDS)


def _runs(home: Path) -> bool:
    """Whether a server holds the home folder's lock."""
    try:
        with (home / "server.lock").open("a") as file:
            return not _try(file, fcntl.LOCK_SH)
    except OSError:
        return False


def _facts(home: Path) -> _Facts | None:
    try:
        said = json.loads((home / "server.json").read_text("utf-8"))
        return _Facts(
            str(said["url"]), int(said["pid"]), str(said["token"]), str(said["version"]), bool(said["embedded"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _found(home: Path) -> _Facts | None:
    """Return the server that runs, or None. Raises `Unavailable` for one that does not answer."""
    until = time.monotonic() + _STOP_SECONDS
    while _runs(home):
        facts = _facts(home)
        if facts is not None and _answers(facts):
            return facts
        if time.monotonic() > until:
            which = f" (process {facts.pid})" if facts is not None else ""
            raise Unavailable(
                f"the server of {home}{which} runs, but does not answer: stop it and try again; its log is "
                f"{home / 'logs' / 'server.log'}"
            )
        time.sleep(_LOOK_SECONDS * 4)  # it is just starting or stopping
    return None


def _answers(facts: _Facts) -> bool:
    http = Http(facts.url, timeout=5.0)
    try:
        return http.raw("GET", "/api/v1/health", tries=1).status == 200
    except LeptonError:
        return False
    finally:
        http.close()


def _start(home: Path) -> "subprocess.Popen[bytes]":
    if any(find_spec(name) is None for name in _NEEDED):
        raise MissingExtra(
            "no host is set, and this installation has no server:  pip install 'lepton-ai-sdk[platform]'  or set LEPTONAI_HOST"
        )
    try:
        (home / "logs").mkdir(mode=0o700, exist_ok=True)
        (home / "server.json").unlink(missing_ok=True)
        with (home / "logs" / "server.err").open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "leptonai.server", "--embedded", "--home", str(home)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=settings.environment(),
                start_new_session=True,  # Ctrl-C is for the program, which then tells the server
            )
    except OSError as error:
        raise DiskFull(f"the server of {home} cannot be started: {error.strerror}") from error


def _wait(home: Path, process: "subprocess.Popen[bytes]") -> _Facts:
    """Return what the server says of itself as soon as it does. It listens before it says so."""
    until = time.monotonic() + _START_SECONDS
    try:
        while time.monotonic() < until:
            facts = _facts(home)
            if facts is not None and facts.pid == process.pid:
                return facts
            if process.poll() is not None:
                raise Unavailable(f"the server of {home} did not start: {_last_words(home)}")
            time.sleep(_LOOK_SECONDS)
        raise Unavailable(
            f"the server of {home} did not answer within {_START_SECONDS:g} s: see {home / 'logs' / 'server.log'}"
        )
    except BaseException:  # such as Ctrl-C: nothing half-started is left
        _end(process)
        raise


def _end(process: "subprocess.Popen[bytes]") -> None:
    stop: tuple[Callable[[], None], ...] = (process.terminate, process.kill)
    for signal_it in stop:
        signal_it()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3.0)
            return


def _last_words(home: Path) -> str:
    """Return what the server said last before it ended, in one line."""
    for line in _tail(home / "logs" / "server.err"):
        return line.removeprefix("leptonai: ")
    return f"it said nothing; its log is {home / 'logs' / 'server.log'}"


def _tail(path: Path) -> Iterator[str]:
    try:
        lines = path.read_bytes()[-8192:].decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    yield from (line.strip() for line in reversed(lines) if line.strip())
