"""The server of this machine: found by its home folder, or started there, and stopped when nobody uses it."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from leptonai import __version__
from leptonai.core import settings
from leptonai.core.errors import Conflict, MissingExtra, Unavailable
from leptonai.sdk.http import Http

_START_SECONDS = 60.0
_STOP_SECONDS = 8.0
_NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "obstore", "cryptography", "pysqlite3")


class Embedded:
    """A server on this machine that this process uses. `private`: it lives only while somebody uses it."""

    def __init__(
        self, url: str, token: str, private: bool, lock: TextIO, home: Path, process: "subprocess.Popen[bytes] | None"
    ):
        self.url = url
        self.token = token
        self.private = private
        self._lock = lock
        self._home = home
        self._process = process

    def close(self) -> None:
        """Let go of it; the last one to let go of a private server sees it stop."""
        if self._lock.closed:
            return
        self._lock.close()
        if self.private:
            self._stop_if_last()
        if self._process is not None and self._process.poll() is None and self.private:
            # Others use it still: it is theirs now, and must not be waited for.
            self._process.returncode = 0

    def _stop_if_last(self) -> None:
        with contextlib.suppress(OSError), (self._home / "clients.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # somebody else uses it, or it is stopping by itself
            facts = _facts(self._home)
            if facts is not None and facts["url"] == self.url:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(facts["pid"], signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < until and _alive(self._home):
            time.sleep(0.02)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)


def ensure(home: Path) -> Embedded:
    """Find the server of a home folder, or start one. Raises `MissingExtra`, `Unavailable`, `Conflict`."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Held while this process lives, and let go by the kernel should it be killed. Waits while a server ends.
        lock = (home / "clients.lock").open("a")
    except OSError as error:
        raise Unavailable(
            f"the home folder {home} cannot be used: {error.strerror}; set LEPTONAI_HOME to one that can"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with _alone(home):
            process = None
            facts = _facts(home) if _alive(home) else None
            if facts is None or not _answers(facts["url"]):
                process = _start(home)
                facts = _wait(home, process)
        if facts["version"] != __version__:
            raise Conflict(
                f"the server of {home} is leptonai {facts['version']}, this program is {__version__}: "
                f"stop it (process {facts['pid']}) and try again"
            )
        return Embedded(facts["url"], facts["token"], bool(facts.get("embedded")), lock, home, process)
    except BaseException:
        lock.close()
        raise


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Let one program at a time look for, and start, the server."""
    with (home / "start.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _alive(home: Path) -> bool:
    """Whether a server holds the home folder's lock."""
    try:
        with (home / "server.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _facts(home: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads((home / "server.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and {"url", "token", "pid", "version"} <= set(facts) else None


def _answers(url: str) -> bool:
    http = Http(url, timeout=5.0)
    try:
        return http.raw("GET", "/api/v1/health").status == 200
    except Unavailable:
        return False
    finally:
        http.close()


def _start(home: Path) -> "subprocess.Popen[bytes]":
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            "no host is set, and this installation has no server: set LEPTONAI_HOST, or  pip install 'lepton-ai-sdk[platform]'"
        )
    (home / "logs").mkdir(mode=0o700, exist_ok=True)
    (home / "server.json").unlink(missing_ok=True)
    with (home / "logs" / "server.log").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "leptonai.server", "--embedded", "--home", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=settings.environment(),
            start_new_session=True,  # Ctrl-C is for the program, which then tells the server
        )


def _wait(home: Path, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        facts = _facts(home)
        if facts is not None and facts["pid"] == process.pid and _answers(facts["url"]):
            return facts
        if process.poll() is not None:
            raise Unavailable(f"the server of {home} did not start: {_last_words(home)}")
        time.sleep(0.01)
    process.kill()
    process.wait()
    raise Unavailable(
        f"the server of {home} did not answer within {_START_SECONDS:g} s: see {home / 'logs' / 'server.log'}"
    )


def _last_words(home: Path) -> str:
    try:
        lines = (home / "logs" / "server.log").read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].removeprefix("leptonai: ") if lines else "it said nothing"
