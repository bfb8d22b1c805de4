"""A process that does nothing but fork others: those that try settings begin with the libraries loaded, and with nothing computed.

The Run's own process asks for one whenever it needs one, also late, when libraries have threads and locks in it that no fork
outlives. Whoever it forked dies with it, and it dies with the Run's process, however that ends.
"""

import ctypes
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import NamedTuple, NoReturn

from leptonai.core.ranks import LOST

_PR_SET_PDEATHSIG = 1
_ASK = struct.Struct("=ci")  # what is asked, and of whom
_HIRE, _HOW = b"h", b"?"
NO_ROOM = 78  # the exit code of one for which no machine of the cluster had a processor free
_CODES = {LOST: "its machine was lost", NO_ROOM: "no machine of the cluster has a processor free for it"}

Work = Callable[[Connection], None]


class Hired(NamedTuple):
    """A process that was forked: what is said to it and heard of it, its id, and what is readable once it has ended."""

    line: Connection
    pid: int
    end: int  # a pidfd


class Ended(NamedTuple):
    """How one ended, in words; and whether what it did may be to blame."""

    words: str
    blamed: bool = True


class Nursery:
    """Starts the process. To be made before anything is computed; `work` is what each forked process does, `ahead` a module
    that is loaded before the first is forked.
    """

    def __init__(self, work: Work, ahead: str = ""):
        self._sock, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._sock.close()
            _nurse(theirs, work, ahead, os.getppid())
        theirs.close()

    def hire(self) -> Hired:
        """Have one forked."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._sock, [_ASK.pack(_HIRE, 0)], [theirs.fileno()])
        pid = self._answer()
        return Hired(Connection(ours.detach()), pid, os.pidfd_open(pid))

    def how(self, pid: int) -> Ended:
        """Say how one ended."""
        self._sock.sendall(_ASK.pack(_HOW, pid))
        code = self._answer()
        if code < 0:
            return Ended(
                f"it was ended by {signal.Signals(-code).name}"
                + (", as when memory runs out" if code == -signal.SIGKILL else "")
            )
        return Ended(_CODES.get(code, f"it ended with exit code {code}"), blamed=code != LOST)

    def close(self) -> None:
        """End it, and all whom it forked."""
        self._sock.close()
        os.waitpid(self._pid, 0)

    def _answer(self) -> int:
        data = self._sock.recv(_ASK.size)
        if len(data) < _ASK.size:
            raise ChildProcessError("the process that forks those that try settings is gone")
        return int(_ASK.unpack(data)[1])


def _nurse(sock: socket.socket, work: Work, ahead: str, parent: int) -> NoReturn:
    try:
        _die_with(parent)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the Run's process decides
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        hired: set[int] = set()
        if ahead:
            import_module(ahead)
        while True:
            data, fds, _, _ = socket.recv_fds(sock, _ASK.size, 1)
            if not data:
                _end(hired)
                os._exit(0)
            kind, about = _ASK.unpack(data)
            if kind == _HOW:
                hired.discard(about)
                about = os.waitstatus_to_exitcode(os.waitpid(about, 0)[1])
            else:
                about = _fork(sock, fds[0], work)
                os.close(fds[0])
                hired.add(about)
            sock.sendall(_ASK.pack(kind, about))
    except BaseException:  # noqa: BLE001  # the outermost frame of a process
        traceback.print_exc()
    os._exit(1)


def _end(hired: set[int]) -> None:
    for pid in hired:
        os.kill(pid, signal.SIGKILL)
    for pid in hired:
        os.waitpid(pid, 0)


def _fork(sock: socket.socket, fd: int, work: Work) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _die_with(parent)
        sock.close()
        work(Connection(fd))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # the outermost frame of a process
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
