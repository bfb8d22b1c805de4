"""Hears what the planes ask for: models that are called and not in memory. One is brought at a time, each once however many ask."""

import contextlib
import logging
import socket
import threading
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from leptonai.core.errors import Corrupt, LeptonError
from leptonai.serving import frames

IDLE_SECONDS = 5.0  # after which the thread that brings models ends, until the next one is wanted

_log = logging.getLogger(__name__)


class Plane(Protocol):
    """What asks."""

    wants: socket.socket


class Keeper(Protocol):
    """What is asked, see `agent.residence`."""

    def want(self, op: str, service: str) -> None:
        """Do what is asked for."""

    def touch(self, ids: list[str]) -> None:
        """Note what was used."""


class Demand:
    """One thread for each plane that listens, and one that does what they ask, while there is something to do."""

    def __init__(self, keeper: Keeper):
        self._keeper = keeper
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._queued: set[tuple[str, str]] = set()
        self._working = False

    def listen(self, plane: Plane) -> None:
        """Hear what a plane asks for until it is gone."""
        threading.Thread(target=self._hear, args=(plane.wants.dup(),), name="wants", daemon=True).start()

    def _hear(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError, Corrupt, ValueError):
            while (frame := frames.receive(line)) is not None:
                said: dict[str, Any] = frame.header
                self._keeper.touch(said["used"])
                if said["op"] != "used":
                    self.ask(said["op"], said["service"])

    def ask(self, op: str, service: str) -> None:
        """Have something done; returns at once."""
        asked = (op, service)
        with self._lock:
            if asked in self._queued:
                return
            self._queued.add(asked)
            self._queue.put(asked)
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="demand", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                asked = self._queue.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._queue.empty():
                        self._working = False
                        return
                continue
            with self._lock:
                self._queued.discard(asked)  # who asks from now on may have seen what was before
            try:
                self._keeper.want(*asked)
            except LeptonError as error:
                _log.warning("%s %s: %s", *asked, error.message)
