"""The home folder as the running server holds it: one server for each, and where this user's programs find it."""

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from leptonai import __version__
from leptonai.core.errors import Conflict, DiskFull, Unavailable

_LOOK_SECONDS = 0.5
_GLANCE_SECONDS = 0.3  # a client that looks whether a server runs holds the lock for a moment


@contextlib.contextmanager
def hold(home: Path) -> Iterator[None]:
    """Hold the lock of the home folder. Raises `Conflict` that names the server which has it, `Unavailable`, `DiskFull`."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "logs").mkdir(mode=0o700, exist_ok=True)
        lock = (home / "server.lock").open("a")
    except OSError as error:
        raise Unavailable(
            f"the home folder {home} cannot be used: {error.strerror}; set LEPTONAI_HOME to one that can"
        ) from error
    with lock:
        until = time.monotonic() + _GLANCE_SECONDS
        while not _try_lock(lock):
            if time.monotonic() > until:
                raise Conflict(_runs_already(home))
            time.sleep(0.01)
        (home / "server.json").unlink(missing_ok=True)  # of a server that was killed
        try:
            yield
        finally:
            (home / "server.json").unlink(missing_ok=True)


def _runs_already(home: Path) -> str:
    try:
        other = json.loads((home / "server.json").read_text("utf-8"))
        where = f"process {other['pid']}, at {other['url']}"
    except (OSError, ValueError, KeyError, TypeError):
        where = "which is just starting or stopping"
    return f"a server of {home} runs already ({where}): use that one, or stop it first"


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def tell(home: Path, url: str, token: str, embedded: bool) -> None:
    """Write server.json, by which this user's programs find the server; readable by him alone. Raises `DiskFull`."""
    facts = {"url": url, "pid": os.getpid(), "token": token, "version": __version__, "embedded": embedded}
    temp = home / f".server.json.{os.getpid()}"
    try:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(facts, file)
        temp.replace(home / "server.json")
    except OSError as error:
        temp.unlink(missing_ok=True)
        raise DiskFull(f"{home / 'server.json'} cannot be written: {error.strerror}") from error


async def when_lonely(home: Path, then: Callable[[], None]) -> None:
    """Call `then` when no client holds clients.lock; the kernel lets go of it even for a client that was killed.

    The lock is then held until this process ends: a client that comes now waits, and starts a server of its own.
    """
    with (home / "clients.lock").open("a") as file:
        while not _try_lock(file):
            await asyncio.sleep(_LOOK_SECONDS)
        then()
        await asyncio.Event().wait()
