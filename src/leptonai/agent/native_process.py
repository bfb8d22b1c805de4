"""The process of a native model, as the agent holds it."""

import contextlib
import itertools
import logging
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from leptonai.agent.native import ANSWER, LOAD
from leptonai.core.errors import Invalid, LeptonError, from_dict
from leptonai.core.nouns import Model
from leptonai.core.ports import Executor, Job
from leptonai.serving import frames
from leptonai.serving.plane.native import connect

START_SECONDS = 180.0  # its framework may have to be imported first

_log = logging.getLogger(__name__)
_number = itertools.count(1)


class NativeProcess:
    """Starts the process, gives it the model, and starts another one in its place when it dies."""

    def __init__(self, executor: Executor, model: Model, files: Mapping[str, bytes], folder: Path):
        self.model = model
        self.path = folder / ANSWER  # where the plane reaches it, whichever process that is
        self._executor = executor
        self._files = files
        self._folder = folder
        self._job = ""
        self._failures = 0
        self._retry_at = 0.0

    def start(self) -> None:
        """Start it and return when the model is loaded. Raises `Invalid` with the reason why it cannot be."""
        self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in (LOAD, ANSWER):
            (self._folder / name).unlink(missing_ok=True)
        self._job = f"native-{self.model.id}-{next(_number)}"
        flavour = str(self.model.lineage.get("flavour", "data"))
        self._executor.start(Job(self._job, "leptonai.agent.native:main", {}, self._folder, flavour))
        with self._connect() as line:
            try:
                frames.send(
                    line, {"op": "load", "model": self.model.model_dump(mode="json")}, list(self._files.values())
                )
                frame = frames.receive(line)
            except OSError:
                frame = None
        if frame is None:
            raise Invalid("the process of the model died while it loaded it; the agent's log may say why")
        if frame.header["op"] == "failed":
            raise from_dict(frame.header["error"])

    def keep_up(self) -> None:
        """Start another process when the last one died; one that cannot be started is tried again ever more slowly."""
        if self._executor.poll(self._job) is None or time.monotonic() < self._retry_at:
            return
        _log.warning("the process of model %s died; it is started again", self.model.id)
        try:
            self.start()
            self._failures = 0
        except LeptonError as error:
            self._failures += 1
            self._retry_at = time.monotonic() + min(2.0**self._failures, 60.0)
            _log.error("model %s: %s", self.model.id, error.message)

    def close(self) -> None:
        """End it and remove its folder."""
        if self._job:
            self._executor.stop(self._job, 1.0)
        shutil.rmtree(self._folder, ignore_errors=True)

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
