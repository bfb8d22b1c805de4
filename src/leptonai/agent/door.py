"""The door of a Site's serving processes: it accepts each connection, passes it on, and keeps a hold of it.

A process of the plane may die at any moment; its connections do not, because they are held here too. They are passed to
another process at once, or to the next one that there is, which finds in the connection's slot (`serving.escrow`) what
is still to be answered. While no process is there, callers wait in the listening socket.

The door also counts the connections of each address, and gives each its place in the count of requests.
"""

import array
import contextlib
import logging
import os
import selectors
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import NamedTuple

from leptonai.core import settings
from leptonai.serving import escrow
from leptonai.serving.escrow import Passed

PASS = struct.Struct("<III")
NO_BUCKET = 0xFFFFFFFF
BURST_SECONDS = 1.0  # whose requests an address may send at once
_AT_ONCE = 64
_AGAIN_SECONDS = 0.005  # until what no process could take is offered again
_FREED_BYTES = 1 << 16
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

_log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """What one address may do. `rate`: requests a second, 0 for any number; `burst`: requests at once."""

    connections: int = 0  # 0: any number
    rate: float = 0.0
    burst: float = 1.0


def limits() -> Limits:
    """Return the limits that the settings ask for. Raises `Invalid`."""
    rate = settings.number("address_rate")
    return Limits(int(settings.number("address_connections")), rate, max(1.0, rate * BURST_SECONDS))


class _Held(NamedTuple):
    """A connection, with the address it comes from and the bucket of that."""

    connection: socket.socket
    address: str
    bucket: int


class _Member:
    """A process of the plane: the line to it, and the slots of the connections it has."""

    def __init__(self, line: socket.socket, crashed: Callable[[], bool]):
        self.line = line
        self.crashed = crashed
        self.slots: set[int] = set()
        self.leaving = False  # it gets no more
        self.planned = False


class Door:
    """Accepts for all processes of a plane, in a thread of its own."""

    def __init__(self, listening: socket.socket, file: int, slots: int, limits: Limits | None = None):
        """`file`: the memory of the slots; it stays the caller's, as the listening socket does."""
        self._file = file
        self._limits = limits or Limits()
        self._listening = listening
        self._open = False  # whether the thread looks at the listening socket
        self._members: dict[int, _Member] = {}  # by the number of their place
        self._held: dict[int, _Held] = {}
        self._free = list(range(slots - 1, -1, -1))  # the one that was used last is used first
        self._orphans: deque[tuple[int, Passed]] = deque()
        self._addresses: dict[str, int] = {}  # how many connections each has
        self._buckets: dict[str, int] = {}
        self._next_bucket = 0
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closing = self._ended = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, self._do)
        listening.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)
        self._thread.start()

    def join(
        self, place: int, line: socket.socket, crashed: Callable[[], bool] = lambda: True, *, planned: bool = False
    ) -> None:
        """Give connections to a process, over a line that stays the caller's; who had its place gets no more.

        `crashed` says, once it is gone, whether by a fault of its own; `planned`: who had its place is about to end in order,
        which says nothing against the requests that it has.
        """
        member = _Member(line.dup(), crashed)
        self._tell(lambda: self._join(place, member, planned=planned))

    def stop(self) -> None:
        """Accept no more, and pass nothing on: the processes are about to end."""
        done = threading.Event()

        def stop() -> None:
            self._closing = True
            self._listen(False)
            done.set()

        self._tell(stop)
        done.wait(5.0)

    def close(self) -> None:
        """Let go of every connection, and end the thread."""
        self._tell(self._end)
        self._thread.join()
        for held in self._held.values():
            held.connection.close()
        for member in self._members.values():
            member.line.close()
        self._selector.close()
        os.close(self._wake)

    @property
    def connections(self) -> int:
        """How many are held."""
        return len(self._held)

    # --------------------------------------------------------------------------------------- in the thread

    def _tell(self, command: Callable[[], None]) -> None:
        self._commands.put(command)
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(_AGAIN_SECONDS if self._orphans and self._joined else None):
                try:
                    key.data()
                except OSError as error:
                    _log.warning("the door of the serving plane: %s", error)
            self._pass_orphans()

    def _do(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with contextlib.suppress(Empty):
            while True:
                self._commands.get_nowait()()

    def _end(self) -> None:
        self._ended = True

    @property
    def _joined(self) -> list[_Member]:
        return [member for member in self._members.values() if not member.leaving]

    def _join(self, place: int, member: _Member, *, planned: bool) -> None:
        member.line.setblocking(False)
        former = self._members.get(place)
        if former is not None:
            former.leaving, former.planned = True, planned
            self._members[-id(former)] = former
        self._members[place] = member
        self._selector.register(member.line, selectors.EVENT_READ, lambda: self._hear(member))
        self._listen(not self._closing)

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._open:
            self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        elif self._open and not wanted:
            self._selector.unregister(self._listening)
        self._open = wanted

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                return
            host = address[0]
            count = self._addresses.get(host, 0)
            if not self._free:
                _refuse(connection, _FULL)
            elif 0 < self._limits.connections <= count:
                _refuse(connection, _TOO_MANY)
            else:
                self._addresses[host] = count + 1
                slot = self._free.pop()
                self._held[slot] = _Held(connection, host, self._bucket(host) if self._limits.rate else NO_BUCKET)
                self._give(slot, Passed.NEW)

    def _bucket(self, address: str) -> int:
        """Return the place of an address in the count of requests; when all are taken, two addresses share one."""
        found = self._buckets.get(address)
        if found is None:
            if len(self._buckets) >= escrow.BUCKETS:
                self._buckets = {host: self._buckets[host] for host in self._addresses if host in self._buckets}
            found = self._buckets[address] = self._next_bucket
            self._next_bucket = (found + 1) % escrow.BUCKETS
        return found

    def _give(self, slot: int, how: Passed) -> None:
        """Pass a connection to the process that has the fewest."""
        held = self._held[slot]
        data = PASS.pack(how, slot, held.bucket)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [held.connection.fileno()]))]
        for member in sorted(self._joined, key=lambda member: len(member.slots)):
            try:
                member.line.sendmsg([data], rights)
            except OSError:  # it is busy, or it just died
                continue
            member.slots.add(slot)
            return
        self._orphans.append((slot, how))

    def _pass_orphans(self) -> None:
        if self._joined and not self._closing:
            for _ in range(len(self._orphans)):
                self._give(*self._orphans.popleft())

    def _hear(self, member: _Member) -> None:
        """Let go of the connections that a process is done with; take them all back when it is gone."""
        try:
            data = member.line.recv(_FREED_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(member)
            return
        for (slot,) in struct.iter_unpack("<I", data):
            if slot in member.slots:
                member.slots.discard(slot)
                self._let_go(slot)

    def _let_go(self, slot: int) -> None:
        held = self._held.pop(slot)
        held.connection.close()
        escrow.clear(self._file, slot)
        self._free.append(slot)
        left = self._addresses[held.address] - 1
        if left:
            self._addresses[held.address] = left
        else:
            del self._addresses[held.address]

    def _lost(self, member: _Member) -> None:
        self._selector.unregister(member.line)
        member.line.close()
        self._members = {place: one for place, one in self._members.items() if one is not member}
        if not self._joined:
            self._listen(False)
        how = Passed.HANDED if member.planned else Passed.INHERITED if member.crashed() else Passed.KILLED
        for slot in member.slots:
            if self._closing:
                self._let_go(slot)
            else:
                self._orphans.append((slot, how))


def _refuse(connection: socket.socket, answer: bytes) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(answer)
        connection.shutdown(socket.SHUT_WR)
