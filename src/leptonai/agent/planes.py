"""The serving processes of a Site: as many as the machine has cores for, on one port, each with all of the models.

The kernel deals connections out to their sockets (SO_REUSEPORT). The agent holds the sockets too, so while a process is
started again its callers wait instead of being turned away; the others go on. Beside the sockets they share a board of
memory, on which each keeps its counts: so any of them can answer for all.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from leptonai.agent.plane_process import PlaneProcess

BOARD_BYTES = 16 << 20  # of one process; what is not written takes no memory
_BACKLOG = 2048
_T = TypeVar("_T")


class Planes:
    """The slots of a Site's serving processes. Used by one thread; what is in them may die at any time."""

    def __init__(self, port: int, log: Path, count: int, host: str = "127.0.0.1", grpc: int = 0):
        """`port`: where they answer, if it is free; `grpc`: where they answer gRPC too, 0 for nowhere."""
        self._log = log
        self._sockets = listen(port, count, host)
        self._grpc = listen(grpc, count, host) if grpc else []
        self._boards = [_board() for _ in range(count)]
        self.members: list[PlaneProcess | None] = [None] * count

    @property
    def port(self) -> int:
        """Where they answer."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def grpc_port(self) -> int | None:
        """Where they answer gRPC."""
        return int(self._grpc[0].getsockname()[1]) if self._grpc else None

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
        grpc = self._grpc[slot] if self._grpc else None
        return PlaneProcess(self._sockets[slot], self._log, self._boards, slot, grpc)

    def keep(self, slot: int, plane: PlaneProcess) -> None:
        """Make a process the one of its slot."""
        self.members[slot] = plane

    def bury(self, slot: int) -> bool:
        """Clear a dead process away; say whether there was one."""
        member, self.members[slot] = self.members[slot], None
        if member is not None:
            member.kill()
        return member is not None

    def each(self, do: Callable[[PlaneProcess], None]) -> None:
        """Do something with all that run, at once. Raises the first error, when all are done."""
        together(do, self.alive)

    def close(self) -> None:
        """Let them finish what they accepted, then end them."""
        members = [member for member in self.members if member is not None]
        self.members = [None] * len(self.members)
        together(PlaneProcess.close, members)
        for listening in (*self._sockets, *self._grpc):
            listening.close()
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


def _board() -> int:
    board = os.memfd_create("leptonai-plane")
    os.ftruncate(board, BOARD_BYTES)
    return board
