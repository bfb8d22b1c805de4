"""What a worker says of itself without being asked: a few numbers in a file that it keeps mapped.

It costs the worker about a microsecond a batch, and can be read while the worker is deep in a computation. Readers read
the file and never map it, so that a worker that truncates it harms nobody but itself.
"""

import mmap
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

_LAYOUT = struct.Struct("<ddQQ")
_COST = struct.Struct("<dddQ")  # after it: since when it computes without a pause, then what it took until then
_SINCE = struct.Struct("<d")
_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_COST_SECONDS = 0.25  # between two looks at what the process itself takes
NAME = "pulse"
MOVED = "leptonai.serving.pulse:moved"  # what an executor of several machines needs to lay it beside who reads it
SILENT_SECONDS = 20.0  # for a worker that computes nothing and still does not say that it is there


class Reading(NamedTuple):
    """What was found. Times are seconds of CLOCK_MONOTONIC, which all processes share."""

    beat: float  # when it last looked for work
    since: float  # when what it computes now began; 0: nothing
    waiting: int  # callers that it saw waiting
    done: int  # batches and pieces that it computed
    begun: float = 0.0  # since when the time in which it computes is not in `busy` yet; 0: it does not compute
    busy: float = 0.0  # seconds in which it computed
    cpu: float = 0.0  # seconds of processor time
    rss: int = 0  # bytes of memory

    def busy_until(self, now: float) -> float:
        """Return the seconds in which it computed, with what it computes now."""
        return self.busy + (max(0.0, now - self.begun) if self.begun else 0.0)

    def hangs(self, now: float, seconds: float) -> str | None:
        """Say why it is to be ended: `seconds` is how long it may compute one batch; None when all is well."""
        if self.since and now - self.since > seconds:
            return f"it computed for longer than {seconds:g} s, which is its limit"
        if not self.since and self.beat and now - self.beat > SILENT_SECONDS:
            return f"it did not answer for {SILENT_SECONDS:g} s"
        return None


class Pulse:
    """The worker's end."""

    def __init__(self, folder: Path):
        """Make the file anew and map it."""
        path = folder / NAME
        path.unlink(missing_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(number, _LAYOUT.size + _COST.size)
            self._memory = mmap.mmap(number, _LAYOUT.size + _COST.size)
        finally:
            os.close(number)
        self._done = 0
        self._batch = self._piece = 0.0  # when what is computed began
        self._busy = 0.0
        self._begun = 0.0  # when it began to compute after it had nothing to do
        self._cost_at = 0.0
        self._rss = 0
        self.rest(0)

    def work(self, waiting: int) -> None:
        """Say that a batch begins, and how many callers wait."""
        self._batch = now = time.monotonic()
        self._begun = self._begun or now
        _LAYOUT.pack_into(self._memory, 0, now, self._piece or now, waiting, self._done)
        _SINCE.pack_into(self._memory, _LAYOUT.size, self._begun)

    def rest(self, waiting: int = 0) -> None:
        """Say that no batch is being computed."""
        self._batch, now = 0.0, time.monotonic()
        _LAYOUT.pack_into(self._memory, 0, now, self._piece, waiting, self._done)
        self._cost(now)

    def did(self) -> None:
        """Count something that was computed."""
        self._done += 1

    def pieces(self, since: float | None, running: int) -> None:
        """Say when the slowest piece that is being made began, and how many answers in pieces there are."""
        self._piece = since or 0.0
        begun, now = min(filter(None, (self._batch, self._piece)), default=0.0), time.monotonic()
        self._begun = self._begun or begun
        _LAYOUT.pack_into(self._memory, 0, now, begun, running, self._done)
        self._cost(now)

    def _cost(self, now: float) -> None:
        """Write down what the process took so far."""
        if self._begun:
            self._busy += now - self._begun
            self._begun = now if self._batch or self._piece else 0.0
        if now - self._cost_at > _COST_SECONDS:
            self._cost_at = now
            self._rss = int(_STATM.read_text().split()[1]) * _PAGE
        _COST.pack_into(self._memory, _LAYOUT.size, self._begun, self._busy, time.process_time(), self._rss)


def moved(data: bytes, seconds: float) -> bytes:
    """Return what a worker on another machine says, with its times on the clock of this one, which is so many seconds ahead."""
    if len(data) != _LAYOUT.size + _COST.size:
        return data
    beat, since, waiting, done = _LAYOUT.unpack_from(data)
    begun, *cost = _COST.unpack_from(data, _LAYOUT.size)
    beat, since, begun = (time + seconds if time else 0.0 for time in (beat, since, begun))
    return _LAYOUT.pack(beat, since, waiting, done) + _COST.pack(begun, *cost)


def read(folder: Path) -> Reading | None:
    """Return what the worker in this folder says; None while there is none."""
    try:
        number = os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        data = os.pread(number, _LAYOUT.size + _COST.size, 0)
    except OSError:
        return None
    finally:
        os.close(number)
    if len(data) != _LAYOUT.size + _COST.size:
        return None
    return Reading(*_LAYOUT.unpack_from(data), *_COST.unpack_from(data, _LAYOUT.size))
