"""Turns: whoever trains waits for the word before an epoch, and says when his turn is over, by a socket in his folder.

So a callback inside a Run, and any peer in any Python, can do it, and whoever waits does nothing.
"""

import socket
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

ROOM = "turns"  # the socket


class Turns:
    """The place of one who trains: `begin` and `end` stand around an epoch, `batch` after each batch in it."""

    def __init__(self, folder: str):
        self.folder = folder
        self._line: Any = None

    def begin(self) -> None:
        """Say that all is ready, and wait for the word."""
        if self._line is None:
            found = socket.socket(socket.AF_UNIX)
            found.connect(str(Path(self.folder) / ROOM))
            self._line = found.makefile("rw")
        self._say("ready")
        self._wait()

    def batch(self, computed: Callable[[], object] = lambda: None) -> None:
        """Count a batch; after as many as the word said it is the other's turn. `computed` waits for what is still computed."""
        self._done += 1
        if self._done == self._many:
            computed()
            self._say(f"{perf_counter() - self._began!r} {self._done} 0")
            self._wait()

    def end(self) -> None:
        """Say that the epoch is over."""
        self._say(f"{perf_counter() - self._began!r} {self._done} 1")

    def _wait(self) -> None:
        word = self._line.readline()
        if not word:
            raise SystemExit(0)
        self._many, self._done = int(word), 0
        self._began = perf_counter()

    def _say(self, words: str) -> None:
        self._line.write(words + "\n")
        self._line.flush()

    def __getstate__(self) -> dict[str, Any]:  # a callback travels to the Run before anybody waits
        return {"folder": self.folder, "_line": None}
