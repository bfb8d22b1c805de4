"""The process that jobs are forked from: it has the heavy libraries of one flavour loaded, and does nothing else.

    python -P -m leptonai.adapters.executors.forkserver SOCKET FLAVOUR [ahead]

It only imports, it never computes: a child forked from a process that has used torch, JAX or polars hangs on their locks and
lost threads, one forked after mere imports works. When it forks it has one thread, and no work that a fork could interrupt. JSON lines go
both ways over SOCKET, the number of an inherited descriptor; when the other end closes, however its process ended,
every job is killed and the server ends.

In:   {"do": "start", "id", "entry", "payload", "folder", "limits", "environment"} · {"do": "stop", "id", "grace"}
Out:  {"ready": true} · {"started": id, "pid"} · {"exited": id, "code", "limit"}
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from leptonai.adapters.executors import child, family
from leptonai.core import plugins, stages
from leptonai.core.nouns import Limits

LOG = "output.log"
_WATCH = 0.25  # seconds between two looks at jobs with a limit on memory or processor time
_GLANCE = 2.0  # and at the others, to know who belongs to whom
_NICE = 10  # while it loads ahead of any job: some seconds of one core, after each start of an agent
_ENTRY = "leptonai.agent.once:main"  # what an agent starts: loaded ahead like the libraries


def ours() -> list[str]:
    """Return the modules of leptonai that a Run begins with; they import, and compute nothing at import."""
    names = [_ENTRY, stages.READER, stages.PREDICTOR, stages.TRIALS]
    names += [name for stage in stages.STAGES.values() for name in (stage.spec, stage.work)]
    return sorted({name.partition(":")[0] for name in names})


def preload(modules: list[str]) -> None:
    """Import what is there. What is missing, or fails, is left to the job, which gets the error where it can be told."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        except Exception as error:  # noqa: BLE001  # a library may raise anything; the others are still wanted
            print(f"{name} cannot be loaded ahead: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


@dataclass
class Started:
    """A job that runs."""

    id: str
    pid: int
    limits: Limits
    began: float = field(default_factory=time.monotonic)
    kill_at: float | None = None  # when the grace of `stop` ends
    broke: str | None = None  # the limit it broke, in words
    seen: dict[int, family.Process] = field(default_factory=dict)  # everybody that ever belonged to it

    def deadline(self) -> float | None:
        """Return when something must be done about it by the clock."""
        wall = None if self.limits.wall_seconds is None or self.broke else self.began + self.limits.wall_seconds
        return min((at for at in (wall, self.kill_at) if at is not None), default=None)


class ForkServer:
    """Forks, watches, reaps. All in one loop."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._pid = os.getpid()
        self._jobs: dict[str, Started] = {}
        self._unread = b""
        self._next_look = 0.0
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._ours = [sock.fileno(), self._woken, wake]

    def serve(self) -> None:
        """Do what is asked until the other end closes, then kill what is left."""
        self._tell(ready=True)
        try:
            while True:
                ready, _, _ = select.select([self._sock.fileno(), self._woken], [], [], self._patience())
                if self._woken in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                if self._sock.fileno() in ready and not self._receive():
                    return
                self._reap()
                self._watch()
        finally:
            _kill_all(lambda everybody: [p for p in family.tree(self._pid, everybody) if p.pid != self._pid])

    # ------------------------------------------------------------------------------------------ messages

    def _receive(self) -> bool:
        """Read and do what is asked; False when the other end has closed."""
        try:
            data = self._sock.recv(1 << 20)
        except ConnectionError:
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._do(json.loads(line))
        return bool(data)

    def _do(self, asked: dict[str, Any]) -> None:
        if asked["do"] == "start":
            self._start(asked)
        elif job := self._jobs.get(asked["id"]):
            job.kill_at = time.monotonic() + asked["grace"]
            try:
                os.killpg(job.pid, signal.SIGTERM)
            except ProcessLookupError:  # it has no group of its own yet; the signal waits until it handles signals
                os.kill(job.pid, signal.SIGTERM)  # it was not reaped, so the pid is still its

    def _tell(self, **said: Any) -> None:
        with contextlib.suppress(ConnectionError):  # the other end has gone: the loop will see it
            self._sock.sendall(json.dumps(said).encode() + b"\n")

    # ---------------------------------------------------------------------------------------------- fork

    def _start(self, asked: dict[str, Any]) -> None:
        limits = Limits.model_validate(asked["limits"])
        # No signal may reach the child while it still has this process's handlers; it waits until they are reset.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns when native threads exist at a fork. Those here belong to BLAS libraries, which stop
                # them before a fork and start them anew after it, and none of them has been given work.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                self._become(asked, limits)
        except OSError as error:
            why = f"this machine cannot start another process ({error.strerror}): let fewer Runs work at once"
            self._tell(exited=asked["id"], code=1, limit=why)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        now = time.monotonic()
        self._jobs[asked["id"]] = Started(asked["id"], pid, limits)
        self._next_look = min(self._next_look, now + _WATCH) if self._next_look > now else now + _WATCH
        self._tell(started=asked["id"], pid=pid)

    def _become(self, asked: dict[str, Any], limits: Limits) -> NoReturn:
        code = 1
        try:
            child.leave(self._pid)
            child.reset_signals()
            for fd in self._ours:
                os.close(fd)
            os.chdir(asked["folder"])
            child.redirect(Path(asked["folder"], LOG))
            os.environ.update(asked["environment"])
            sys.argv = [asked["entry"]]
            child.limit(limits)
            child.reseed()
            child.forget()
            code = child.call(asked["entry"], asked["payload"], limits)
            child.finish()
        except BaseException:  # noqa: BLE001  # the outermost frame; nothing may reach the server's loop
            traceback.print_exc()
            code = code or 1
        finally:
            os._exit(code)

    # --------------------------------------------------------------------------------------- watch and reap

    def _patience(self) -> float | None:
        """Return how long nothing needs to be done, in seconds; None: until somebody asks."""
        if not self._jobs:
            return None
        times = [at for job in self._jobs.values() if (at := job.deadline()) is not None]
        return max(0.0, min([*times, self._next_look]) - time.monotonic())

    def _watch(self) -> None:
        """Hold the jobs to their limits and to the grace of `stop`."""
        now = time.monotonic()
        for job in self._jobs.values():
            wall = job.limits.wall_seconds
            if wall is not None and job.broke is None and now >= job.began + wall:
                self._break(
                    job, f"it ran for {wall:g} s, which is its limit: raise limits.wall_seconds or ask for less work"
                )
            elif job.kill_at is not None and now >= job.kill_at:
                self._kill(job)
        if self._jobs and now >= self._next_look:
            self._look_at_all()
            watched = any(job.limits.memory_mb or job.limits.cpu_seconds for job in self._jobs.values())
            self._next_look = now + (_WATCH if watched else _GLANCE)

    def _look_at_all(self) -> None:
        everybody = family.everybody()
        for job in self._jobs.values():
            members = family.tree(job.pid, everybody)
            job.seen |= {process.pid: process for process in members}
            cpu, memory = job.limits.cpu_seconds, job.limits.memory_mb
            if cpu is not None and sum(process.cpu_seconds for process in members) >= cpu:
                self._break(job, _cpu(cpu))
            elif memory is not None and sum(process.resident for process in members) > memory << 20:
                used = sum(family.held(process) for process in members)  # exact, and dear: only when it matters
                if used > memory << 20:
                    self._break(job, _memory(memory, used))

    def _break(self, job: Started, limit: str) -> None:
        job.broke = job.broke or limit
        self._kill(job)

    def _kill(self, job: Started) -> None:
        """Kill a job with everybody that belongs, or ever belonged, to it."""
        _kill_all(lambda everybody: [*_still(job.seen.values(), everybody), *family.tree(job.pid, everybody)])
        job.kill_at = time.monotonic() + _WATCH  # again then, if the kernel is slow

    def _reap(self) -> None:
        by_pid = {job.pid: job for job in self._jobs.values()}
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if job := by_pid.get(pid):  # else it is an orphan that we adopted
                del self._jobs[job.id]
                self._kill(job)
                if not self._jobs:  # what is left in sessions of its own can now belong to nobody else
                    _kill_all(lambda everybody: [p for p in family.tree(self._pid, everybody) if p.pid != self._pid])
                code = os.waitstatus_to_exitcode(status)
                self._tell(
                    exited=job.id,
                    code=_plain(code),
                    limit=job.broke or _limit(job, code, usage.ru_utime + usage.ru_stime),
                )


def _still(processes: Iterable[family.Process], everybody: dict[int, family.Process]) -> list[family.Process]:
    """Return those that are still alive; a pid may have been used again."""
    return [p for p in processes if p.pid in everybody and everybody[p.pid].began == p.began]


def _kill_all(find: Callable[[dict[int, family.Process]], list[family.Process]]) -> None:
    """Kill what `find` finds until it finds nothing: a process may start another one while it is being looked for."""
    for _ in range(50):
        found = find(family.everybody())
        if not found:
            return
        family.end(found)
        time.sleep(0.002)


def _cpu(limit: float) -> str:
    return f"it used {limit:g} s of processor time, which is its limit: raise limits.cpu_seconds or ask for less work"


def _memory(limit: int, used: int | None = None) -> str:
    much = f"{used >> 20:,} MB" if used else "more"
    return (
        f"it used {much} of memory and its limit is {limit:,} MB: raise limits.memory_mb, or use less, "
        "such as with a smaller batch_size"
    )


def _plain(code: int) -> int:
    return 1 if code == child.OUT_OF_MEMORY else code


def _limit(job: Started, code: int, cpu_seconds: float) -> str | None:
    """Say which limit made the kernel, or Python, end a job."""
    if job.limits.memory_mb is not None and code == child.OUT_OF_MEMORY:
        return _memory(job.limits.memory_mb)
    if job.limits.cpu_seconds is not None and (
        code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu_seconds >= job.limits.cpu_seconds)
    ):
        return _cpu(job.limits.cpu_seconds)
    return None


def _give_way() -> None:
    """Have this thread take only the processor time that callers of Services leave. The jobs are forked from another one, which
    keeps its priority: a thread, once it gave way, may not come back.
    """
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _load(flavour: str) -> None:
    preload([*stages.FLAVOURS[flavour][0], *ours()])
    plugins.load_ahead()


def main(sock_number: int, flavour: str, *, ahead: bool) -> None:
    """Load what the flavour needs, then serve. `ahead`: nobody waits for it yet."""
    gc.disable()
    # The thread is gone before anything is forked.
    with ThreadPoolExecutor(1, "loading", initializer=_give_way if ahead else None) as pool:
        pool.submit(_load, flavour).result()
    gc.collect()
    gc.freeze()  # or the first collection in a child would touch, and so copy, every page
    child.adopt_orphans()
    with socket.socket(fileno=sock_number) as sock:
        ForkServer(sock).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], ahead="ahead" in sys.argv[3:])
