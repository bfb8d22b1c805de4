"""The processes of the Models of a Site that have no ONNX file: started when one is loaded, ended a while after it left."""

import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from leptonai.agent.native_process import NativeProcess, bundle
from leptonai.agent.text_process import TextProcess
from leptonai.core.nouns import Model
from leptonai.core.ports import Executor, Store
from leptonai.serving.text.kinds import RUNTIMES

RETIRE_SECONDS = 10.0  # for a native model to finish what it was given


class Natives:
    """The native models of one Site. Used by several threads; one of them may wait until another has started a process."""

    def __init__(self, executor: Executor, home: Path, blobs: Callable[[], Store]):
        self._executor = executor
        self._home = home
        self._blobs = blobs
        self.first: Callable[[str], int | None] = lambda _: (
            None
        )  # with how many workers a version begins, see `agent.scaler`
        self._lock = threading.Lock()
        self._running: dict[str, NativeProcess | TextProcess] = {}
        self._retired: list[tuple[float, NativeProcess | TextProcess]] = []

    def start(self, model: Model) -> Path:
        """Return where the plane reaches a model's process, which runs then. Raises `Invalid` when it does not start."""
        with self._lock:
            found = self._running.get(model.id)
            if found is None:
                found = self._back(model.id)
            if found is None:
                found = self._made(model)
                try:
                    found.start()
                except BaseException:
                    found.close()
                    raise
            self._running[model.id] = found
            return found.path

    def workers(self) -> dict[str, NativeProcess]:
        """Return the workers of each version that has some."""
        return {id: found for id, found in dict(self._running).items() if isinstance(found, NativeProcess)}

    def numbers(self, id: str) -> tuple[int, ...] | None:
        """Return which workers of a version take work; None where none compute it."""
        found = self._running.get(id)
        return found.numbers if isinstance(found, NativeProcess) else None

    def trouble(self, id: str) -> str:
        """Say why the process of a model cannot compute now; "" when it can, or there is none."""
        found = self._running.get(id)
        return "" if found is None else found.trouble

    def only(self, ids: Collection[str]) -> None:
        """End the processes of all other models, when they had time to finish."""
        with self._lock:
            for id in self._running.keys() - set(ids):
                self._retired.append((time.monotonic() + RETIRE_SECONDS, self._running.pop(id)))

    def keep_up(self) -> None:
        """Start what died, end what is needed no more."""
        if not self._lock.acquire(blocking=False):
            return  # one is being started
        try:
            now = time.monotonic()
            for when, native in tuple(self._retired):
                if now > when:
                    self._retired.remove((when, native))
                    native.close()
            for native in self._running.values():
                native.keep_up()
        finally:
            self._lock.release()

    def close(self) -> None:
        """End all."""
        with self._lock:
            for native in (*self._running.values(), *(native for _, native in self._retired)):
                native.close()
            self._running.clear()
            self._retired.clear()

    def _made(self, model: Model) -> NativeProcess | TextProcess:
        if model.signature.task in RUNTIMES:
            return TextProcess(self._executor, model, self._blobs(), self._home / "jobs" / f"text-{model.id}")
        files = {name: self._read(blob) for name, blob in bundle(model).items()}
        folder, logs = self._home / "jobs" / f"native-{model.id}", self._home / "logs"
        count = self.first(model.id)
        return NativeProcess(self._executor, model, files, folder, self._blobs().open, logs, count)

    def _back(self, id: str) -> NativeProcess | TextProcess | None:
        """Take a process back that was to end: another one in its place would be in the same folder."""
        for line in self._retired:
            if line[1].model.id == id:
                self._retired.remove(line)
                return line[1]
        return None

    def _read(self, blob: str) -> bytes:
        with self._blobs().open(blob) as file:
            return file.read()
