"""Two who train, in turns of ten batches: a machine of others drifts from one epoch to the next by more than two loops differ.

An epoch's ratio is that of the turns it was made of; those during which the host took the processors away are left out of both.
"""

import random
import socket
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol

from _host import calm, watched

from training.turns import ROOM

MANY = 10  # batches of a turn; 0 is a whole epoch
REST = 1.0  # seconds before an epoch, for what is written of the one before
PATIENCE = 600.0


class Ended(Exception):
    """Who trains, in that folder, ended before his time."""


class Trainer(Protocol):
    """A process that trains while it is entered."""

    room: "Room"

    def __enter__(self) -> Any: ...
    def __exit__(self, *_: object) -> None: ...
    def accuracy(self) -> float:
        """Return the share of held-out images told after the last epoch."""
        ...


@dataclass
class Turn:
    """What one did at a time."""

    seconds: float
    batches: int
    last: bool  # of its epoch
    disturbed: bool = False


@dataclass
class Beside:
    """The turns of two by epochs, but for the first, which warms them up; each with its accuracy at the end."""

    ours: list[list[Turn]] = field(default_factory=list)
    theirs: list[list[Turn]] = field(default_factory=list)
    accuracies: tuple[float, float] = (0.0, 0.0)

    def ratios(self) -> list[float]:
        """Return how quick ours is beside theirs in each epoch: their seconds by ours."""
        return [_ratio(list(zip(*both, strict=False))) for both in zip(self.ours, self.theirs, strict=True)]

    def ratio(self) -> float:
        """Return the median of the epochs' ratios."""
        return statistics.median(self.ratios())

    def spread(self) -> dict[str, float]:
        """Return what the results say of the epochs' ratios."""
        found = self.ratios()
        return {
            "median": round(statistics.median(found), 3),
            "least": round(min(found), 3),
            "most": round(max(found), 3),
        }


def _ratio(pairs: list[tuple[Turn, Turn]]) -> float:
    believed = [pair for pair in pairs if not (pair[0].disturbed or pair[1].disturbed)] or pairs
    return sum(theirs.seconds for _, theirs in believed) / sum(ours.seconds for ours, _ in believed)


def speed(epochs: list[list[Turn]], rows: int) -> int:
    """Return the samples per second of somebody's turns; `rows`: of an epoch."""
    turns = [turn for epoch in epochs for turn in epoch]
    believed = [turn for turn in turns if not turn.disturbed] or turns
    share = sum(max(turn.batches, 1) for turn in believed) / sum(max(turn.batches, 1) for turn in turns)
    return round(rows * len(epochs) * share / sum(turn.seconds for turn in believed))


def beside(ours: Trainer, other: Trainer, epochs: int, batches: int = MANY) -> Beside:
    """Have two train in turns. Raises `Ended` where one of them ends before."""
    found, chance = Beside(), random.Random(0)
    with ours, other:
        for epoch in range(epochs):
            for one in (ours, other):
                one.room.wait()
            sleep(REST)
            calm()
            took: tuple[tuple[Trainer, list[Turn]], ...] = ((ours, []), (other, []))
            while left := [who for who in took if not (who[1] and who[1][-1].last)]:
                chance.shuffle(left)  # nobody always comes after the other
                for one, turns in left:
                    turns.append(one.room.turn(batches))
            if epoch:
                found.ours.append(took[0][1])
                found.theirs.append(took[1][1])
        found.accuracies = ours.accuracy(), other.accuracy()
    return found


class Room:
    """Where one who trains waits for the word. `alive`: whether he may still come."""

    def __init__(self, folder: Path, alive: Callable[[], bool]):
        self._folder, self._alive = folder, alive
        self._line: Any = None
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(folder / ROOM))
        self._door.listen(1)
        self._door.settimeout(0.5)

    def wait(self) -> None:
        """Wait until he is ready for an epoch."""
        end = monotonic() + PATIENCE
        while self._line is None:
            try:
                self._one = self._door.accept()[0]
            except TimeoutError:
                if not self._alive() or monotonic() > end:
                    raise Ended(self._folder) from None
            else:
                self._one.settimeout(PATIENCE)
                self._line = self._one.makefile("rw")
        self._read()

    def turn(self, batches: int) -> Turn:
        """Give the word for some batches, 0 for an epoch, and wait until he has had his turn."""
        with watched() as seen:
            self._line.write(f"{batches}\n")
            self._line.flush()
            seconds, many, last = self._read().split()
        return Turn(float(seconds), int(many), last == "1", seen.disturbed)

    def close(self) -> None:
        """Tell him to go, if he still waits."""
        self._door.close()
        if self._line is not None:
            self._line.close()
            self._one.close()

    def _read(self) -> str:
        found = self._line.readline()
        if not found:
            raise Ended(self._folder)
        return found
