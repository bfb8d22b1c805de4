"""Starting and ending servers: timed to their first right answer, and never left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from serving import load


class NotStarted(Exception):
    """A server that did not answer; the message says what it said last."""


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server of another product: a process, with whatever it starts."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path):
        self._log = log
        self._started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder,
                env={**os.environ, **environment}, start_new_session=True,
            )  # fmt: skip
        self._seen: dict[int, psutil.Process] = {}

    @property
    def runs(self) -> bool:
        """Whether it is there still."""
        return self._process.poll() is None

    def tree(self) -> list[int]:
        """Return the process and all that come from it."""
        for process in [*_family(self._process.pid), *(p for old in tuple(self._seen) for p in _family(old))]:
            self._seen[process.pid] = process
        return [pid for pid, process in self._seen.items() if process.is_running()]

    def memory(self, rest: float = 1.0) -> tuple[float, float]:
        """Return the resident memory of the whole tree after a rest, in MB: RSS, and PSS."""
        time.sleep(rest)
        return memory(self.tree())

    def first_answer(
        self, base: str, request: load.Request, seconds: float = 90.0
    ) -> tuple[float, bytes, dict[str, str]]:
        """Ask until it answers; return the seconds since its start, and the answer. Raises `NotStarted`."""
        refusal = ""
        while time.perf_counter() - self._started < seconds:
            if self._process.poll() is not None:
                raise NotStarted(f"it ended with {self._process.returncode}: {self.last_words()}")
            try:
                status, headers, body = load.post(base, request, timeout=5.0)
            except OSError:
                time.sleep(0.005)
                continue
            if status == 200:
                return time.perf_counter() - self._started, body, dict(headers)
            refusal = f"{status} {body[:300].decode(errors='replace')}"
            time.sleep(0.005)
        raise NotStarted(f"no answer within {seconds:g} s: {refusal or self.last_words()}")

    def last_words(self) -> str:
        """Return the end of its log."""
        return " | ".join(self._log.read_text(errors="replace").strip().splitlines()[-4:])[-600:]

    def close(self) -> None:
        """End it and all that came from it, by their ids."""
        self.tree()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(8.0)
        self.tree()
        for process in self._seen.values():  # psutil knows a process by its start too: never another one with its id
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait()
        psutil.wait_procs([p for p in self._seen.values() if p.pid != self._process.pid], timeout=5.0)


def memory(pids: Sequence[int]) -> tuple[float, float]:
    """Return the resident memory of processes in MB: RSS added up, and PSS, in which shared pages count once."""
    rss = pss = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
            rss, pss = rss + values["Rss"], pss + values["Pss"]
    return rss / 1e6, pss / 1e6


QUIET = 0.05  # of one core: a server and all that came from it do nothing else than wait


def quiet(pid: int, seconds: float) -> bool:
    """Wait until a server has begun: it and all that came from it take hardly any processor time. False: not in that time."""
    until = time.perf_counter() + seconds
    before: dict[int, float] = {}
    while time.perf_counter() < until:
        now: dict[int, float] = {}
        for process in _family(pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                now[process.pid] = times.user + times.system
        if before and sum(value - before.get(one, 0.0) for one, value in now.items()) < QUIET:
            return True
        before = now
        time.sleep(1.0)
    return False


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> Iterator[Server]:
    """Start a server, and end it whatever happens."""
    server = Server(command, log, environment, folder)
    try:
        yield server
    finally:
        server.close()
