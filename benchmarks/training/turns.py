"""Turns: whoever trains waits before each epoch until it is told to go, and notes how long the epoch took.

By files in a folder, so that a callback inside a Run, and any peer in any Python, can do it.
"""

import time
from pathlib import Path


class Turns:
    """The place of one who trains. `begin` and `end` stand around an epoch."""

    def __init__(self, folder: str):
        self.folder = folder
        self.epoch = 0

    def begin(self) -> None:
        """Say that all is ready, and wait for the word."""
        place = Path(self.folder)
        (place / f"ready-{self.epoch}").touch()
        while not (place / f"go-{self.epoch}").exists():
            if (place / "stop").exists():
                raise SystemExit(0)
            time.sleep(0.1)  # seldom: whoever waits is not to disturb who computes
        self.began = time.perf_counter()

    def end(self) -> None:
        """Note the seconds of the epoch."""
        seconds = time.perf_counter() - self.began
        done = Path(self.folder) / f"done-{self.epoch}"
        done.with_suffix(".part").write_text(repr(seconds))
        done.with_suffix(".part").rename(done)
        self.epoch += 1


def ready(folder: Path, epoch: int) -> bool:
    """Whether somebody waits for the word."""
    return (folder / f"ready-{epoch}").exists()


def go(folder: Path, epoch: int) -> None:
    """Give the word for an epoch."""
    (folder / f"go-{epoch}").touch()


def seconds(folder: Path, epoch: int) -> float | None:
    """Return how long it took; None while it is not over."""
    done = folder / f"done-{epoch}"
    return float(done.read_text()) if done.exists() else None
