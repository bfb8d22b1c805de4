"""Runs each job in a process of its own on this machine, forked from a server that has its libraries loaded."""

import codecs
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from leptonai.adapters.executors import family
from leptonai.adapters.executors.forkserver import LOG
from leptonai.core import settings
from leptonai.core.errors import Conflict, NotFound, Unavailable
from leptonai.core.ports import Exit, Job
from leptonai.core.stages import FLAVOURS

_REMEMBERED = 1000  # ended jobs that can still be asked about
_MOST_LOG = 1 << 20  # bytes of log given at once


@dataclass
class _Server:
    """A fork server, and our end of its socket. `pids` are those of its jobs that run."""

    process: subprocess.Popen[bytes]
    sock: socket.socket
    unread: bytes = b""
    ready: bool = False  # it has loaded its libraries
    pids: dict[str, int] = field(default_factory=dict)


@dataclass
class _Entry:
    """What is known of a job."""

    flavour: str
    log: Path
    offset: int
    exit: Exit | None = None
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))


class LocalExecutor:
    """An `Executor` on this machine. Thread-safe, and without a thread of its own.

    Jobs die with this process, even if it is killed: the fork servers see its end of their sockets close. If a fork server is
    killed, the kernel kills its jobs, we kill what they started, and the next job gets a new server.
    `environment`: what libraries are to find there already when they are loaded.
    """

    def __init__(self, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self._environment = dict(environment)
        self._lock = threading.RLock()
        self._servers: dict[str, _Server] = {}
        self._jobs: dict[str, _Entry] = {}
        self._closed = False

    def warm(self, flavour: str) -> None:
        """Load the libraries of a flavour ahead, in the background. Raises `Unavailable`."""
        with self._lock:
            self._server(flavour, ahead=True)

    def start(self, job: Job) -> None:
        """Start a job. Raises `Unavailable` when that cannot be done, `Conflict` while one with this id runs."""
        with self._lock:
            entry = self._jobs.get(job.id)
            if entry is not None and self._look(entry) is None:
                raise Conflict(f"a job {job.id} runs already")
            try:
                job.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                log = job.folder.absolute() / LOG
                offset = log.stat().st_size if log.exists() else 0
            except OSError as error:
                raise Unavailable(
                    f"job {job.id} cannot be started: its folder {job.folder}: {error.strerror}"
                ) from error
            asked = {
                "do": "start",
                "id": job.id,
                "entry": job.entry,
                "payload": job.payload,
                "folder": str(job.folder.absolute()),
                "limits": job.limits.model_dump(),
                "environment": dict(job.environment),
            }
            self._drain()  # so that a server which has died since is not asked
            if not self._ask(job.flavour, asked) and not self._ask(job.flavour, asked):
                raise Unavailable(f"job {job.id} cannot be started: its fork server died at once; see what it printed")
            self._jobs.pop(job.id, None)
            self._jobs[job.id] = _Entry(job.flavour, log, offset)
            self._forget()

    def poll(self, id: str) -> Exit | None:
        """Say how a job ended, or None while it runs. Raises `NotFound` on one that was never started."""
        with self._lock:
            return self._look(self._entry(id))

    def stop(self, id: str, grace_seconds: float = 5.0) -> None:
        """Ask the job to end (SIGTERM), and have it killed with all of its children after the grace. Returns at once."""
        with self._lock:
            entry = self._entry(id)
            if self._look(entry) is None:
                self._ask(entry.flavour, {"do": "stop", "id": id, "grace": grace_seconds})

    def logs(self, id: str) -> str:
        """Return what the job printed since the last call, at most 1 MiB; ask again for more."""
        with self._lock:
            entry = self._entry(id)
            ended = self._look(entry) is not None
            try:
                with entry.log.open("rb") as file:
                    file.seek(entry.offset)
                    data = file.read(_MOST_LOG)
            except FileNotFoundError:  # it has not come that far yet, or its folder was tidied away
                return ""
            entry.offset += len(data)
            return entry.decoder.decode(data, final=ended and len(data) < _MOST_LOG)

    def close(self, grace_seconds: float = 2.0) -> None:
        """Stop all jobs and the processes kept warm for them. Nothing can be started afterwards."""
        with self._lock:
            self._closed = True
            self._drain()
            for flavour in [name for name, server in self._servers.items() if not server.ready]:
                self._bury(flavour)  # it has not come to start anything
            running = [id for id, entry in self._jobs.items() if self._look(entry) is None]
            for id in running:
                self.stop(id, grace_seconds)
            until = time.monotonic() + grace_seconds + 1
            while any(self._look(self._jobs[id]) is None for id in running) and time.monotonic() < until:
                time.sleep(0.01)
            for flavour in list(self._servers):
                self._bury(flavour)

    # ------------------------------------------------------------------------------------------- fork servers

    def _server(self, flavour: str, *, ahead: bool = False) -> _Server:
        """Return the fork server of a flavour, started if need be; one that loads ahead of any job gives way to all else."""
        if self._closed:
            raise Unavailable("the executor is closed")
        if flavour not in FLAVOURS:
            raise Unavailable(f"there is no flavour {flavour!r}: use one of {', '.join(FLAVOURS)}")
        if flavour not in self._servers:
            environment = settings.environment(**FLAVOURS[flavour][1], **self._environment)
            environment.pop("LEPTONAI_API_KEY", None)  # the agent's; a Run has a token of its own
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    process = subprocess.Popen(
                        [
                            sys.executable,
                            "-P",
                            "-m",
                            "leptonai.adapters.executors.forkserver",
                            str(theirs.fileno()),
                            flavour,
                            *(["ahead"] if ahead else []),
                        ],
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=2,  # what a library prints at import belongs to our log, not to our output
                        pass_fds=[theirs.fileno()],
                        start_new_session=True,  # Ctrl-C is for us alone
                    )
                except OSError as error:
                    ours.close()
                    raise Unavailable(f"no process can be started for jobs: {error.strerror}") from error
            self._servers[flavour] = _Server(process, ours)
        return self._servers[flavour]

    def _ask(self, flavour: str, asked: dict[str, Any]) -> bool:
        """Send to a fork server; False when it has died."""
        server = self._server(flavour) if asked["do"] == "start" else self._servers.get(flavour)
        if server is None:
            return False
        try:
            server.sock.sendall(json.dumps(asked).encode() + b"\n")
        except ConnectionError:
            self._drain()  # hears its last words, and buries it
            return False
        return True

    def _drain(self) -> None:
        """Read what the fork servers said; bury those that died."""
        for flavour, server in list(self._servers.items()):
            with contextlib.suppress(BlockingIOError):
                while True:
                    try:
                        data = server.sock.recv(1 << 16, socket.MSG_DONTWAIT)
                    except ConnectionError:
                        data = b""
                    if not data:
                        self._bury(flavour)
                        break
                    *lines, server.unread = (server.unread + data).split(b"\n")
                    for line in lines:
                        self._hear(server, json.loads(line))

    def _hear(self, server: _Server, said: dict[str, Any]) -> None:
        if "ready" in said:
            server.ready = True
        elif "started" in said:
            server.pids[said["started"]] = said["pid"]
        else:
            server.pids.pop(said["exited"], None)
            if entry := self._jobs.get(said["exited"]):
                entry.exit = Exit(said["code"], said["limit"])

    def _bury(self, flavour: str) -> None:
        """Close our end of a fork server, which kills its jobs if it still lives, and see that nothing of it is left."""
        server = self._servers.pop(flavour)
        server.sock.close()
        if not server.ready:  # it is still busy with imports, and has started nothing
            server.process.kill()
        try:
            server.process.wait(10)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
        if server.process.returncode != 0:  # it was killed: the kernel has killed its jobs, but not what those started
            everybody = family.everybody()
            for pid in server.pids.values():
                family.end(process for process in everybody.values() if process.session == pid)
        for entry in self._jobs.values():
            if entry.flavour == flavour and entry.exit is None:
                entry.exit = Exit(-signal.SIGKILL)

    # --------------------------------------------------------------------------------------------------- jobs

    def _entry(self, id: str) -> _Entry:
        if id not in self._jobs:
            raise NotFound(f"there is no job {id} here")
        return self._jobs[id]

    def _look(self, entry: _Entry) -> Exit | None:
        if entry.exit is None:
            self._drain()
        return entry.exit

    def _forget(self) -> None:
        ended = [id for id, entry in self._jobs.items() if entry.exit is not None]
        for id in ended[:-_REMEMBERED]:
            del self._jobs[id]
