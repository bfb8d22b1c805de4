"""The serving processes of a Site: as many as the machine has cores for, on one port, each with all of the models.

The agent accepts the connections and deals them out (`agent.door`), and keeps what their clients sent until it is answered
(`serving.escrow`): so when a process dies, another goes on where it stopped. Beside that they share a board of memory, on
which each keeps its counts: so any of them can answer for all.
"""

import contextlib
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from leptonai.agent import door
from leptonai.agent.plane_process import Kept, PlaneProcess
from leptonai.core import settings
from leptonai.core.nouns import Model
from leptonai.core.runtimes import Variant
from leptonai.serving import escrow, marks
from leptonai.serving.plane.board import Board

BOARD_BYTES = 16 << 20  # of one process; what is not written takes no memory
_BACKLOG = 2048
_CONNECTIONS = 4096  # for each process
_MOST = 16384
_FILES = 1024  # that the agent may need for other things
_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class Planes:
    """The slots of a Site's serving processes. Used by one thread; what is in them may die at any time."""

    def __init__(self, port: int, log: Path, count: int, host: str = "127.0.0.1", grpc: int = 0):
        """`port`: where they answer, if it is free; `grpc`: where they answer gRPC too, 0 for nowhere."""
        self._log = log
        (self._listening,) = listen(port, 1, host)
        self._grpc = listen(grpc, count, host) if grpc else []
        self._boards = [_board() for _ in range(count)]
        self._notes = Board([os.dup(board) for board in self._boards], -1)  # of which none is ours
        self.members: list[PlaneProcess | None] = [None] * count
        self._limits = door.limits()
        self._slots = _slots(count)
        self._escrow = escrow.make(self._slots)
        self._door = door.Door(self._listening, self._escrow, self._slots, self._limits)

    @classmethod
    def of_settings(cls, home: Path, port: int) -> "Planes":
        """Return as many as the settings say, for a Site whose home folder this is; none of them runs yet."""
        log = home / "logs" / "plane.log"
        log.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        grpc = int(settings.number("grpc_port"))
        made = cls(port, log, int(settings.number("planes")), grpc=grpc)
        if grpc and made.grpc_port != grpc:
            _log.warning("port %d is taken: gRPC is answered at %d", grpc, made.grpc_port)
        return made

    @property
    def port(self) -> int:
        """Where they answer."""
        return int(self._listening.getsockname()[1])

    @property
    def grpc_port(self) -> int | None:
        """Where they answer gRPC."""
        return int(self._grpc[0].getsockname()[1]) if self._grpc else None

    @property
    def connections(self) -> int:
        """How many connections callers have."""
        return self._door.connections

    @property
    def alive(self) -> list[PlaneProcess]:
        """Those that run."""
        return [member for member in self.members if member is not None and member.alive]

    @property
    def dead(self) -> list[int]:
        """The slots whose process died, or was not started yet."""
        return [slot for slot, member in enumerate(self.members) if member is None or not member.alive]

    def start(self, slot: int) -> PlaneProcess:
        """Start a process for a slot; it is a member once it was given what it is to serve, see `keep`."""
        self.bury(slot)
        return self._new(slot)

    def replace(self, slot: int, fill: Callable[[PlaneProcess], None]) -> None:
        """Put a new process in the place of one that runs, which answers until the other one is filled; no request is lost."""
        plane = self._new(slot)
        try:
            fill(plane)
        except BaseException:
            plane.kill()
            raise
        self.keep(slot, plane)

    def _new(self, slot: int) -> PlaneProcess:
        marks.clear(self._escrow, escrow.place(slot))
        grpc = self._grpc[slot] if self._grpc else None
        kept = Kept(self._escrow, self._slots, self._limits.rate, self._limits.burst)
        return PlaneProcess(self._listening, self._log, self._boards, slot, grpc, kept)

    def keep(self, slot: int, plane: PlaneProcess) -> None:
        """Make a process the one of its slot, to which connections are given from now on. One that runs there ends when it
        has answered what it has; its connections go on with the others.
        """
        former, self.members[slot] = self.members[slot], plane
        assert plane.line is not None  # noqa: S101  (`start`)
        self._door.join(slot, plane.line, plane.faulted, planned=former is not None)
        if former is not None:
            former.close()

    def computing(self, slot: int) -> list[str] | None:
        """Return the ids of the Models that were computed when the process of a slot crashed; None when it did not."""
        member = self.members[slot]
        return marks.computing(self._escrow, escrow.place(slot)) if member is not None and member.crashed else None

    def bury(self, slot: int) -> bool:
        """Clear a dead process away; say whether there was one."""
        member, self.members[slot] = self.members[slot], None
        if member is not None:
            member.kill()
        return member is not None

    def notes(self) -> list[dict[str, Any]]:
        """Return what the processes, also those that died, last noted of their counts: see `serving.plane.metrics`."""
        return self._notes.others()

    def become(self, model: Model, files: Mapping[str, bytes], way: Variant) -> None:
        """Have those that hold a model compute it in another way. Raises the first error, when all are done."""

        def change(plane: PlaneProcess) -> None:
            if model.id in plane.models:
                plane.load(model, files, way=way)

        self.each(change)

    def each(self, do: Callable[[PlaneProcess], None]) -> None:
        """Do something with all that run, at once. Raises the first error, when all are done."""
        together(do, self.alive)

    def close(self) -> None:
        """Let them finish what they accepted, then end them."""
        self._door.stop()
        members = [member for member in self.members if member is not None]
        self.members = [None] * len(self.members)
        together(PlaneProcess.close, members)
        self._door.close()
        for listening in (self._listening, *self._grpc):
            listening.close()
        os.close(self._escrow)
        self._notes.close()
        for board in self._boards:
            os.close(board)


def together(do: Callable[[_T], None], things: Iterable[_T]) -> None:
    """Call `do` with each, in threads. Raises the first error, when all are done."""
    every = list(things)
    if len(every) == 1:
        do(every[0])
        return
    with ThreadPoolExecutor(max(1, len(every)), "planes") as pool:
        done = [pool.submit(do, thing) for thing in every]
    for one in done:
        one.result()


def listen(port: int, count: int, host: str = "127.0.0.1") -> list[socket.socket]:
    """Return sockets that listen together: on `port` where that is free, else on one that is."""
    for wanted in dict.fromkeys((port, 0)):
        with contextlib.ExitStack() as stack:
            try:
                if wanted:
                    _try(host, wanted)
                made: list[socket.socket] = []
                for _ in range(count):
                    made.append(stack.enter_context(_socket(host, made[0].getsockname()[1] if made else wanted)))
            except OSError:
                if wanted == 0:
                    raise
                continue
            stack.pop_all()
            return made
    raise AssertionError("one of the ports was free")


def _try(host: str, port: int) -> None:
    """Raise `OSError` when anybody listens there. A socket that shares its port would join other homes' as well."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind((host, port))
        alone.listen(1)


def _socket(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _slots(count: int) -> int:
    """Return how many connections there may be at once. Each is a file of the agent, which may have so many."""
    wanted = min(_CONNECTIONS * count, _MOST)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + _FILES:
        soft = wanted + _FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(64, min(wanted, soft - _FILES))
    return wanted


def _board() -> int:
    board = os.memfd_create("leptonai-plane")
    os.ftruncate(board, BOARD_BYTES)
    return board
