"""The workers of one version, as the agent holds them."""

import contextlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from leptonai.agent.workers.slot import Slot
from leptonai.core.errors import Corrupt, Invalid
from leptonai.core.nouns import Model
from leptonai.core.ports import Executor
from leptonai.serving import sealed
from leptonai.serving.predictor import FILES, WRITTEN
from leptonai.serving.workers import WHY, Work, slot

MOST_FILES = 200
TROUBLE_SECONDS = 1.0
_numbers = itertools.count(1)


class NativeProcess:
    """Starts the workers, gives them the version, and starts another one in the place of each that dies or hangs."""

    def __init__(
        self,
        executor: Executor,
        model: Model,
        files: Mapping[str, bytes],
        folder: Path,
        open: Callable[[str], BinaryIO] | None = None,
        log: Path | None = None,
    ):
        """`files`: those that are given to the code; `open` opens a blob, for those that came with it. `log`: a folder."""
        self.model = model
        self.path = folder  # where the planes find the workers
        self.work = Work.of(model)
        self._folder = folder
        self._files = files
        self._open = open
        self._executor = executor
        self._log = log
        self._sealed: list[tuple[str, int]] = []
        self._slots: list[Slot] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start them and return when all have loaded it. Raises `LeptonError` with the reason why it cannot be loaded."""
        self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        for old in self._folder.iterdir():
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        self._sealed = [(name.removeprefix(FILES), self._seal(name)) for name in sorted(self._names())]
        stem = f"{self.model.name}-{self.model.version}"
        for number in range(self.work.workers):
            folder = slot(self._folder, number)
            folder.mkdir(mode=0o700)
            if self._log is not None:  # so that it outlives the folder
                self._log.mkdir(parents=True, mode=0o700, exist_ok=True)
                (folder / "output.log").symlink_to(self._log / f"service-{stem}-{number}.log")
            self._slots.append(
                Slot(
                    self._executor,
                    self.model,
                    self.work,
                    self._files,
                    self._sealed,
                    folder,
                    lambda: f"native-{self.model.id}-{next(_numbers)}",
                    self._died,
                )
            )
        for made in self._slots:
            made.start()
        reasons = [made.first() for made in self._slots]
        if (reason := next(filter(None, reasons), None)) is not None:
            raise reason

    @property
    def trouble(self) -> str:
        """Why none of them can compute, for longer than it takes to start one; "" while one can."""
        late = time.monotonic() - TROUBLE_SECONDS
        if not self._slots or any(made.up or made.down > late for made in self._slots):
            return ""
        return f"no worker of it runs: {self._slots[0].reason or 'it is being started'}"

    def keep_up(self) -> None:
        """Nothing: each worker is looked after by a thread of its own."""

    def close(self) -> None:
        """End them and remove their folder."""
        for made in self._slots:
            made.stop()
        for made in self._slots:
            made.join()
        for _, number in self._sealed:
            os.close(number)
        self._sealed = []
        shutil.rmtree(self._folder, ignore_errors=True)

    def _names(self) -> Iterator[str]:
        found = [name for name in self.model.files if name.startswith(FILES)]
        if len(found) > MOST_FILES:
            raise Invalid(f"it has {len(found)} files of its own, and {MOST_FILES} is the most: pack them into one")
        yield from found

    def _seal(self, name: str) -> int:
        """Put a file into memory that nobody can change; workers share it, and no plaintext touches a disk."""
        if self._open is None:
            raise Corrupt("there is no store to read the files of the version from")
        with self._open(self.model.files[name]) as source:
            return sealed.seal(source, name)

    def _died(self, reason: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            new = self._folder / f"{WHY}.new"
            new.write_text(reason, "utf-8")
            new.replace(self._folder / WHY)


def bundle(model: Model) -> dict[str, str]:
    """Return the blobs of the files that are given to the code, by name. Raises `Invalid` when one is missing."""
    needed: tuple[tuple[str, ...], ...] = (("code",), ("weights.safetensors", "model.skops"), ("fitted.json",))
    if model.framework == WRITTEN:
        needed = (("code",), ("predictor.json",))
    names = [next((name for name in some if name in model.files), None) for some in needed]
    if None in names:
        raise Invalid("its bundle has neither model.onnx nor the files of its framework")
    return {name: model.files[name] for name in names if name is not None}
