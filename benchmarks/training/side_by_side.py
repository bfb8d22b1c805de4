"""Ours beside the best loop by hand, in turns of ten batches: what decides between two loops that differ by a hundredth.

A machine of others drifts by more than that from one epoch to the next, so the two change places three times a second. An epoch's ratio is
that of the turns it was made of; a pair of turns during which the host took the processors away is left out of both.
Those who train hear and tell by a Unix socket: whoever waits does nothing.
"""

import random
import socket
import statistics
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from _host import calm, watched

MANY = 10  # batches of a turn
REST = 1.0  # seconds after an epoch, for what is written of it
PATIENCE = 600.0
ROOM = "turns"  # the socket, in the folder of who trains


class ShortTurns:
    """The place of one who trains: `begin` and `end` stand around an epoch, `batch` after each batch in it."""

    def __init__(self, folder: str):
        self.folder = folder
        self._line: Any = None

    def begin(self) -> None:
        """Wait for the word."""
        if self._line is None:
            found = socket.socket(socket.AF_UNIX)
            found.connect(str(Path(self.folder) / ROOM))
            self._line = found.makefile("rw")
        self._done = 0
        self._wait()

    def batch(self) -> None:
        """Count a batch; after some of them it is the other's turn."""
        self._done += 1
        if self._done % MANY == 0:
            self._tell()
            self._wait()

    def end(self) -> None:
        """Say that the epoch is over."""
        self._tell()

    def _wait(self) -> None:
        if not self._line.readline():
            raise SystemExit(0)
        self._began = perf_counter()

    def _tell(self) -> None:
        self._line.write(f"{perf_counter() - self._began!r}\n")
        self._line.flush()

    def __getstate__(self) -> dict[str, Any]:  # a callback travels to the Run before anybody waits
        return {"folder": self.folder, "_line": None}


class ShortTurn:
    """A callback that keeps to its turns."""

    def __init__(self, turns: ShortTurns):
        self.turns = turns

    def on_epoch_begin(self, *_: object) -> None:
        self.turns.begin()

    def on_train_batch_end(self, *_: object) -> None:
        self.turns.batch()

    def on_epoch_end(self, *_: object) -> None:
        self.turns.end()


def ratios(ours: Any, hand: Any, epochs: int, batches: int) -> list[float]:
    """Return how quick ours is beside the other in each epoch but the first, seconds of the other by ours.

    Both have a `folder`, and are processes to enter. `batches`: of an epoch.
    """
    both, found = {"ours": ours, "hand": hand}, []
    with ExitStack() as stack:
        rooms = {name: stack.enter_context(_room(one.folder)) for name, one in both.items()}
        for one in both.values():
            stack.enter_context(one)
        lines = {name: stack.enter_context(_heard(room)) for name, room in rooms.items()}
        names = list(both)
        for epoch in range(epochs):
            sums = dict.fromkeys(both, 0.0)
            spoilt = dict.fromkeys(both, 0.0)
            for turn in range(batches // MANY + 1):
                if turn == 0:
                    sleep(REST)
                    calm()
                random.Random(epoch * 1000 + turn).shuffle(names)
                with watched() as seen:
                    took = {name: _turn(lines[name]) for name in names}
                for name, seconds in took.items():
                    (spoilt if seen.disturbed else sums)[name] += seconds
            whole = sums if sums["ours"] else spoilt
            if epoch:
                found.append(whole["hand"] / whole["ours"])
    return found


def _room(folder: Path) -> socket.socket:
    room = socket.socket(socket.AF_UNIX)
    room.bind(str(folder / ROOM))
    room.listen(1)
    room.settimeout(PATIENCE)
    return room


def _heard(room: socket.socket) -> Any:
    found, _ = room.accept()
    found.settimeout(PATIENCE)
    return found.makefile("rw")


def _turn(line: Any) -> float:
    line.write("go\n")
    line.flush()
    return float(line.readline())


def spread(found: list[float]) -> dict[str, float]:
    """Return what the results say of the epochs' ratios."""
    return {"median": round(statistics.median(found), 3), "least": round(min(found), 3), "most": round(max(found), 3)}
