"""The workers of one version, as the agent holds them: a fixed number, or as many as `agent.scaler` says."""

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
from leptonai.core.beginning import BASE
from leptonai.core.errors import Corrupt, Invalid
from leptonai.core.nouns import Model
from leptonai.core.ports import Executor
from leptonai.serving import pulse, sealed
from leptonai.serving.predictor import FILES, WRITTEN
from leptonai.serving.workers import WHY, Work, slot

MOST_FILES = 200
TROUBLE_SECONDS = 1.0
_numbers = itertools.count(1)


class NativeProcess:
    """Starts the workers, gives them the version, and starts another one in the place of each that dies or hangs.

    The planes are told the numbers of those that take work. One that comes is named when it has loaded the version; one that goes
    is named no more, and then, when the planes know that, sent away (`let_go`). Used by several threads.
    """

    def __init__(
        self,
        executor: Executor,
        model: Model,
        files: Mapping[str, bytes],
        folder: Path,
        open: Callable[[str], BinaryIO] | None = None,
        log: Path | None = None,
        count: int | None = None,
    ):
        """`files`: those that are given to the code; `open` opens a blob, for those that came with it. `log`: a folder. `count`:
        how many workers, in place of what the version says.
        """
        self.model = model
        self.path = folder  # where the planes find the workers
        self.work = Work.of(model.lineage)
        self._count = count or self.work.workers
        self._folder = folder
        self._files = files
        self._open = open
        self._executor = executor
        self._log = log
        self._sealed: list[tuple[str, int]] = []
        self._slots: dict[int, Slot] = {}
        self._going: dict[int, Slot] = {}  # are named no more, and end when nobody calls them
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Start them and return when all have loaded it. Raises `LeptonError` with the reason why it cannot be loaded."""
        self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        for old in self._folder.iterdir():
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        self._sealed = [(name.removeprefix(FILES), self._seal(name)) for name in sorted(self._names())]
        with self._lock:
            made = [self._add() for _ in range(self._count)]
        reasons = [one.first() for one in made]
        if (reason := next(filter(None, reasons), None)) is not None:
            raise reason

    def _add(self) -> Slot:
        """Start a worker at the first place that is free."""
        number = next(n for n in itertools.count() if n not in self._slots and n not in self._going)
        folder = slot(self._folder, number)
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._log is not None:  # so that it outlives the folder
            self._log.mkdir(parents=True, mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                name = f"service-{self.model.name}-{self.model.version}-{number}.log"
                (folder / "output.log").symlink_to(self._log / name)
        made = self._slots[number] = Slot(
            self._executor,
            self.model,
            self.work,
            self._files,
            self._sealed,
            folder,
            lambda: f"native-{self.model.id}-{next(_numbers)}",
            self._died,
        )
        made.start()
        return made

    # ------------------------------------------------------------------------------------- how many there are

    @property
    def elsewhere(self) -> bool:
        """Whether they may be on other machines: then what this one has does not say how many there can be."""
        return bool(getattr(self._executor, "elsewhere", False))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Those that take work: they have loaded the version, and are not on their way out."""
        with self._lock:
            return tuple(sorted(number for number, one in self._slots.items() if one.loaded))

    @property
    def count(self) -> int:
        """How many there are, or are being started."""
        with self._lock:
            return len(self._slots)

    @property
    def ready(self) -> int:
        """How many can compute now."""
        with self._lock:
            return sum(one.up for one in self._slots.values())

    def resize(self, count: int) -> None:
        """Begin to have so many: start others, or name the last ones no more. Returns at once."""
        with self._lock:
            for number in [number for number, one in self._going.items() if not one.is_alive()]:
                del self._going[number]
            while len(self._slots) < count and not self._closed:
                self._add()
            for number in sorted(self._slots, reverse=True)[: max(0, len(self._slots) - count)]:
                self._going[number] = self._slots.pop(number)

    def let_go(self) -> None:
        """Send away those that are named no more: the planes know it, and hang up on them as soon as they have their answers."""
        with self._lock:
            for one in self._going.values():
                one.leave()

    def failure(self) -> str:
        """Forget those that could not load the version, which others of it could; return why, "" without any."""
        with self._lock:
            failed = [number for number, one in self._slots.items() if one.failed is not None]
            reasons = [one.failed.message for n in failed if (one := self._slots.pop(n)).failed is not None]
        return reasons[0] if reasons else ""

    def readings(self) -> dict[int, pulse.Reading]:
        """Return what those say of themselves that take work, by their numbers."""
        found = {number: pulse.read(slot(self._folder, number)) for number in self.numbers}
        return {number: reading for number, reading in found.items() if reading is not None}

    @property
    def trouble(self) -> str:
        """Why none of them can compute, for longer than it takes to start one; "" while one can."""
        late = time.monotonic() - TROUBLE_SECONDS
        with self._lock:
            slots = list(self._slots.values())
        if not slots or any(made.up or made.down > late for made in slots):
            return ""
        return f"no worker of it runs: {slots[0].reason or 'it is being started'}"

    def keep_up(self) -> None:
        """Nothing: each worker is looked after by a thread of its own."""

    def close(self) -> None:
        """End them and remove their folder."""
        with self._lock:
            self._closed = True
            slots = [*self._slots.values(), *self._going.values()]
        for made in slots:
            made.stop()
        for made in slots:
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
    names += [name for name in model.files if name.startswith(BASE)]
    return {name: model.files[name] for name in names if name is not None}
