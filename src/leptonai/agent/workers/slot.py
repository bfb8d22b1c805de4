"""One worker's place: a thread that starts a process there, watches it, and starts another one when it dies or hangs.

A place that is given up is left by its worker when the planes have hung up on it, so that what it was given is answered.
"""

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from leptonai.core.errors import Invalid, LeptonError, Unavailable, from_dict
from leptonai.core.nouns import Limits, Model
from leptonai.core.ports import Executor, Exit, Job
from leptonai.serving import frames, pulse
from leptonai.serving.sockets import connect
from leptonai.serving.workers import ANSWER, LOAD, STREAM, Work

LOOK_SECONDS = 0.25
END_SECONDS = 3.0  # for the executor to say how a worker ended
LONGEST_PAUSE = 10.0  # before one that cannot be started is tried again
LEAVE_SECONDS = 600.0  # for answers in pieces that a worker still makes when it is sent away
_ENTRY = "leptonai.agent.workers.main:main"

_log = logging.getLogger(__name__)


class Slot(threading.Thread):
    """Keeps one worker running. What it says of it holds until the next look."""

    def __init__(
        self,
        executor: Executor,
        model: Model,
        work: Work,
        files: Mapping[str, bytes],
        sealed: Sequence[tuple[str, int]],
        folder: Path,
        fresh: Callable[[], str],
        died: Callable[[str], None],
    ):
        """`files`: for the code; `sealed`: names and descriptors of what lies in its folder; `fresh`: names the next job."""
        super().__init__(name=f"worker {folder.name} of {model.id}", daemon=True)
        self.up = False  # it has loaded the version, and runs
        self.down = time.monotonic()  # since when, while it is not
        self.reason = ""  # why the last one ended
        self._executor = executor
        self._model = model
        self._work = work
        self._files = files
        self._sealed = sealed
        self._folder = folder
        self._fresh = fresh
        self._died = died
        self._job = ""
        self._stopping = threading.Event()
        self._leaving = threading.Event()
        self._tried = threading.Event()
        self._failed: LeptonError | None = None

    def first(self) -> LeptonError | None:
        """Wait until the version was loaded once; return the reason when it was not."""
        self._tried.wait()
        return self._failed

    @property
    def loaded(self) -> bool:
        """Whether the version was loaded there once: a worker that died since is being replaced."""
        return self._tried.is_set() and self._failed is None

    @property
    def failed(self) -> LeptonError | None:
        """Why the version could not be loaded at first; None while it is tried, or when it could."""
        return self._failed

    def stop(self) -> None:
        """Have it end, and let the process end as well."""
        self._stopping.set()

    def leave(self) -> None:
        """Have the process end as soon as nobody calls it any more. Planes that know of it have to be told before."""
        self._leaving.set()

    @property
    def _ending(self) -> bool:
        return self._stopping.is_set() or self._leaving.is_set()

    def run(self) -> None:
        """Keep it up until `stop`."""
        failures = 0
        while not self._ending:
            try:
                line = self._load()
            except LeptonError as error:
                if not self._ending:
                    self._ended(error.message)
                if not self._tried.is_set():  # a version that cannot be loaded at all is not tried again and again
                    self._failed = error
                    self._tried.set()
                    self._end()
                    return
                failures += 1
                line = None
            if line is not None:
                self.up = True
                self._tried.set()
                with line:
                    self._ended(self._watch(line))
                self.up, self.down = False, time.monotonic()
                found = pulse.read(self._folder)
                failures = 0 if found is not None and found.done else failures + 1
            self._end()
            if failures > 1:
                self._stopping.wait(min(0.05 * 2**failures, LONGEST_PAUSE))
        self.up = False
        self._tried.set()
        self._end()

    # ---------------------------------------------------------------------------------------------- one life

    def _load(self) -> socket.socket:
        """Start a process, give it the version, and return the line to it once it has loaded it. Raises `LeptonError`."""
        for name in (LOAD, ANSWER, STREAM, pulse.NAME):
            (self._folder / name).unlink(missing_ok=True)
        self._job = self._fresh()
        flavour = str(self._model.lineage.get("flavour", "data"))
        limits = Limits(memory_mb=self._work.memory_mb)
        threads = str(self._work.threads)
        self._executor.start(
            Job(
                self._job, _ENTRY, {}, self._folder, flavour, limits, {"OMP_NUM_THREADS": threads},
                meets=(LOAD, ANSWER, STREAM), mirrors={pulse.NAME: pulse.MOVED},
            )
        )  # fmt: skip
        until = time.monotonic() + self._work.start_seconds
        line = self._connect(until)
        try:
            header = {
                "op": "load",
                "model": self._model.model_dump(mode="json"),
                "parts": list(self._files),
                "files": [name for name, _ in self._sealed],
            }
            line.settimeout(max(1.0, until - time.monotonic()))
            frames.send(line, header, list(self._files.values()))
            for _, number in self._sealed:
                socket.send_fds(line, [b"f"], [number])
            frame = self._answer(line, until)
            if frame is None:
                raise Invalid(f"its worker died while it loaded the version: {self._how()}")
            if frame.header["op"] == "failed":
                raise from_dict(frame.header["error"])
            self._met(line, until)
        except TimeoutError:
            line.close()
            raise Invalid(self._slow()) from None
        except OSError:
            line.close()
            raise Invalid(f"its worker died while it loaded the version: {self._how()}") from None
        except BaseException:
            line.close()
            raise
        return line

    def _answer(self, line: socket.socket, until: float) -> frames.Frame | None:
        """Wait for what it says, for as long as it may take; leave at once when it is to stop."""
        while not select.select([line], [], [], LOOK_SECONDS)[0]:
            if self._ending:
                raise Unavailable("the service is being closed")
            if time.monotonic() > until:
                raise TimeoutError
        return frames.receive(line)

    def _met(self, line: socket.socket, until: float) -> None:
        """Wait until it can be met: one on another machine is a moment after it said that it listens."""
        while not (self._folder / ANSWER).exists():
            if select.select([line], [], [], 0.005)[0]:
                return  # it died; who watches it says so
            if self._ending:
                raise Unavailable("the service is being closed")
            if time.monotonic() > until:
                raise TimeoutError

    def _connect(self, until: float) -> socket.socket:
        while True:
            with contextlib.suppress(OSError):
                return connect(self._folder / LOAD)
            end = self._executor.poll(self._job)
            if end is not None:
                raise Invalid(f"its worker ended before it began: {_words(end)}")
            if self._ending:
                raise Unavailable("the service is being closed")
            if time.monotonic() > until:
                raise Invalid(self._slow())
            time.sleep(0.005)

    def _watch(self, line: socket.socket) -> str:
        """Return why the process is no more, or is to be ended; "" when that was asked for."""
        left = None
        while not self._stopping.is_set():
            if self._leaving.is_set() and left is None:
                left = time.monotonic() + LEAVE_SECONDS
                with contextlib.suppress(OSError):
                    frames.send(line, {"op": "leave"})
            if select.select([line], [], [], LOOK_SECONDS)[0]:
                return self._how() if left is None else ""
            if left is not None and time.monotonic() > left:
                return ""
            found = pulse.read(self._folder)
            reason = None if found is None else found.hangs(time.monotonic(), self._work.seconds)
            if reason is not None:
                return reason
        return ""

    def _how(self) -> str:
        """Return how the process ended."""
        until = time.monotonic() + END_SECONDS
        while (end := self._executor.poll(self._job)) is None:
            if time.monotonic() > until:
                return "it closed its line"
            time.sleep(0.005)
        return _words(end)

    def _ended(self, reason: str) -> None:
        if reason:
            self.reason = reason
            self._died(reason)
            _log.warning(
                "worker %s of model %s/%s: %s", self._folder.name, self._model.name, self._model.version, reason
            )

    def _end(self) -> None:
        """Let nothing be left of the process."""
        if self._job and self._executor.poll(self._job) is None:
            self._executor.stop(self._job, 0.0)
            until = time.monotonic() + END_SECONDS
            while self._executor.poll(self._job) is None and time.monotonic() < until:
                time.sleep(0.005)

    def _slow(self) -> str:
        return f"its worker was not ready within {self._work.start_seconds:g} s, which is its limit (start_seconds)"


def _words(end: Exit) -> str:
    if end.limit:
        return end.limit
    if end.code < 0:
        return f"it was killed by signal {-end.code}"
    return f"it ended by itself, with code {end.code}"
