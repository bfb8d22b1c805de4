"""Where a training is, as bytes: enough to go on after `kill -9` as if nothing had happened."""

import json
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from leptonai.core.errors import Corrupt, LeptonError, NotFound
from leptonai.core.ports import Learner
from leptonai.core.stages import Handle
from leptonai.training.spec import Encoding

_FORMAT = 1
_RANKS = re.compile(r"rank(\d+)\.(.+)")


@dataclass
class Course:
    """How far a training has come, and what it has measured. The order of an epoch follows from seed, epoch and window alone."""

    epoch: int = 0  # the one at work, from 0
    batch: int = 0  # batches of it that are done
    window: int = (
        0  # rows that are shuffled together; 0: all. As the first attempt had it, whatever memory this one has
    )
    history: dict[str, list[float]] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)  # when each epoch ended, Unix time
    seconds: float = 0.0  # spent in the epochs, in all attempts
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0  # epochs without getting better
    batch_size: int = 0  # rows of a batch, where memory was too small for what was asked; 0: as asked
    path: str = "plain"  # the way of computing that it began with
    rate: float | None = None  # the learning rate that was found, where it was to be found
    rate_cut: float = 1.0  # what a plateau has left of the learning rate
    rate_best: float | None = None
    rate_waited: int = 0
    best_kept: dict[str, bytes] | None = None


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read back."""

    course: Course
    encoding: Encoding
    learner: dict[str, bytes]
    callbacks: bytes | None = None  # what the user's callbacks remember
    ranks: dict[int, dict[str, bytes]] = field(default_factory=dict)  # what of the learner's state differs by process


def write(course: Course, encoding: Encoding, learner: Learner) -> dict[str, bytes]:
    """Return the files of a checkpoint."""
    facts = {name: value for name, value in asdict(course).items() if name != "best_kept"}
    document = {"format": _FORMAT, "course": facts, "encoding": encoding.model_dump(mode="json")}
    files = {"course.json": json.dumps(document).encode()}
    files |= {f"learner.{name}": data for name, data in learner.state().items()}
    return files | {f"best.{name}": data for name, data in (course.best_kept or {}).items()}


def read(files: Mapping[str, bytes]) -> Saved:
    """Read what `write` wrote. Raises `Corrupt` for anything else."""
    try:
        document = json.loads(files["course.json"])
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']}")
        kept = {name.removeprefix("best."): data for name, data in files.items() if name.startswith("best.")}
        course = Course(**document["course"], best_kept=kept or None)
        encoding = Encoding.model_validate(document["encoding"])
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"the checkpoint cannot be read: {error}") from error
    learner = {name.removeprefix("learner."): data for name, data in files.items() if name.startswith("learner.")}
    ranks: dict[int, dict[str, bytes]] = {}
    for name, data in files.items():
        if found := _RANKS.fullmatch(name):
            ranks.setdefault(int(found[1]), {})[found[2]] = data
    return Saved(course, encoding, learner, files.get("callbacks.json"), ranks)


def last(handle: Handle) -> Saved | None:
    """Return the checkpoint of an earlier attempt; None, and a line in the log, where it cannot be read."""
    try:
        files = handle.restore()
        return read(files) if files else None
    except (Corrupt, NotFound) as error:
        handle.say(f"the last checkpoint is not used, the training starts anew: {error.message}")
        return None


class Keeper:
    """Writes checkpoints in a thread: the training waits only until the bytes are taken, not until they are on disk."""

    def __init__(self, handle: Handle):
        self._handle = handle
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._pool.shutdown(wait=True)

    @property
    def busy(self) -> bool:
        """Whether the last one is still being written. Raises what went wrong with it."""
        if not getattr(self._handle, "wants_checkpoint", True):
            return True  # a trial of a moment is not worth one
        if self._last is None or not self._last.done():
            return self._last is not None
        done, self._last = self._last, None
        done.result()
        return False

    def save(self, files: Mapping[str, bytes]) -> None:
        """Begin to write a checkpoint; waits for the one before."""
        self.wait()
        self._last = self._pool.submit(self._handle.save, files)

    def wait(self) -> None:
        """Wait until the last one is safe. Raises what went wrong with it."""
        if self._last is not None:
            done, self._last = self._last, None
            done.result()


_ENDS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_to_stop() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set, so that a step is finished first.

    Whoever sees it set raises `Stopped`; at the end the signal does what it would have done at once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)
        asked.set()

    before = [signal.signal(number, note) for number in _ENDS]
    try:
        yield asked
    finally:
        for number, handler in zip(_ENDS, before, strict=True):
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if came:
            os.kill(os.getpid(), came[0])


class Stopped(LeptonError):
    """The process was told to end; a checkpoint was left."""

    code = "stopped"
