"""The process of a model of text, as the agent holds it.

The model's files are decrypted into memory that the process shares (memfd): no plaintext is on a disk, no copy is made when
another process takes its place, and what is not what was imported is not loaded.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import shutil
import socket
import time
from pathlib import Path

from leptonai.core import settings
from leptonai.core.errors import Corrupt, Invalid, LeptonError, from_dict
from leptonai.core.nouns import Model
from leptonai.core.ports import Executor, Job, Store
from leptonai.serving import frames, pulse
from leptonai.serving.sockets import connect
from leptonai.serving.text.worker import ANSWER, LOAD

START_SECONDS = 300.0
WAITING = 4  # requests behind each that is being answered

_PIECE = 1 << 20
_log = logging.getLogger(__name__)
_number = itertools.count(1)


class TextProcess:
    """Starts the process, gives it the model, and starts another one in its place when it dies."""

    def __init__(self, executor: Executor, model: Model, blobs: Store, folder: Path):
        self.model = model
        self.path = folder / ANSWER  # where the planes reach it, whichever process that is
        self._executor = executor
        self._folder = folder
        self._job = ""
        self._ended = ""  # the job that was ended because it hung
        self._silence = settings.number("text_silence")
        self._failures = 0
        self._retry_at = 0.0
        self._files: dict[str, int] = {}
        try:
            for name, blob in model.files.items():
                self._files[name] = _in_memory(name, blob, blobs, model.lineage.get("files", {}).get(name))
        except BaseException:
            self._drop_files()
            raise

    def start(self) -> None:
        """Start it and return when the model is loaded. Raises `Invalid` with the reason why it cannot be."""
        self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in (LOAD, ANSWER, pulse.NAME):
            (self._folder / name).unlink(missing_ok=True)
        self._job = f"text-{self.model.id}-{next(_number)}"
        self._executor.start(Job(self._job, "leptonai.serving.text.worker:main", {}, self._folder))
        chats = int(settings.number("chats"))
        header = {
            "op": "load",
            "task": self.model.signature.task,
            "names": list(self._files),
            "slots": chats,
            "context": int(settings.number("context")),
            # Threads that wait for each other in a busy loop do badly on cores that others need, so the planes keep half.
            "threads": max(1, len(os.sched_getaffinity(0)) // 2),
            "waiting": chats * WAITING,
        }
        with self._connect() as line:
            try:
                frames.send(line, header)
                socket.send_fds(line, [b"f"], list(self._files.values()))
                frame = frames.receive(line)
            except OSError:
                frame = None
        if frame is None:
            raise Invalid("the process of the model died while it loaded it; the agent's log may say why")
        if frame.header["op"] == "failed":
            raise from_dict(frame.header["error"])

    @property
    def trouble(self) -> str:
        """Why it cannot answer now; "" when it can."""
        if self._executor.poll(self._job) is None:
            return ""
        return "the process of the model died; it is being started again"

    def keep_up(self) -> None:
        """Start another process when the last one died, or hangs; one that cannot be started is tried again ever more slowly."""
        if self._executor.poll(self._job) is None:
            self._end_if_silent()
            return
        if time.monotonic() < self._retry_at:
            return
        _log.warning("the process of model %s died; it is started again", self.model.id)
        try:
            self.start()
            self._failures = 0
        except LeptonError as error:
            self._failures += 1
            self._retry_at = time.monotonic() + min(2.0**self._failures, 60.0)
            _log.error("model %s: %s", self.model.id, error.message)

    def _end_if_silent(self) -> None:
        """End a process that computes requests and gives nothing of any of them: it hangs inside a library."""
        found = pulse.read(self._folder)
        if not self._silence or found is None or not found.since or self._job == self._ended:
            return
        if time.monotonic() - found.since > self._silence:
            said = "nothing came from the process of model %s for %g s, with %d requests under way: it is ended"
            _log.error(said, self.model.id, self._silence, found.waiting)
            self._ended = self._job
            self._executor.stop(self._job, 0.0)

    def close(self) -> None:
        """End it, free its files and remove its folder."""
        if self._job:
            self._executor.stop(self._job, 1.0)
        self._drop_files()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _drop_files(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _connect(self) -> socket.socket:
        until = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                return connect(self._folder / LOAD)
            end = self._executor.poll(self._job)
            if end is not None:
                raise Invalid(f"the process of the model ended before it began: {end.limit or f'code {end.code}'}")
            if time.monotonic() > until:
                raise Invalid(f"the process of the model did not start within {START_SECONDS:g} s")
            time.sleep(0.02)


def _in_memory(name: str, blob: str, blobs: Store, digest: str | None) -> int:
    """Return a descriptor of memory that has the file. Raises `Corrupt` when it is not what was imported."""
    descriptor = os.memfd_create(name.replace("/", "_"), os.MFD_CLOEXEC)
    try:
        found = hashlib.sha256()
        with blobs.open(blob) as source, os.fdopen(os.dup(descriptor), "wb") as target:
            while piece := source.read(_PIECE):
                found.update(piece)
                target.write(piece)
        if digest is not None and found.hexdigest() != digest:
            raise Corrupt(f"the file {name} is not what was imported: its SHA-256 differs")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
