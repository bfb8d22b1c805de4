"""Connections that the agent accepted, and keeps: a process that dies leaves them, and another one answers what is due.

The agent's door (`agent.door`) passes each connection on with the number of its slot (`serving.escrow`), and holds it too. So
`close` alone would not be seen by the client: the connection is shut down, and the door is told that its slot is free.

A request during which a process died is begun again alone, the others of that process wait their turn: when a process crashes
of it again, it is known which one it was, and it is not begun a third time. A process that was killed is taken less ill: that
may have been the system, for want of memory, or anybody.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from leptonai.serving.escrow import Escrow, Kind, Passed, Slot, Standing, standing
from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.http import AHEAD, Connection
from leptonai.serving.plane.server import Server

PASS = struct.Struct("<III")  # how it comes, its slot, the bucket of its address
NO_BUCKET = 0xFFFFFFFF
AHEAD_BYTES = 1 << 20  # that a client may send before it has its answers, beside the request that arrives
TRIAL_SECONDS = 0.25  # that a request which may have killed a process is left alone; then the next one is begun too
TRIALS = {Passed.INHERITED: 1, Passed.KILLED: 3}  # after which a request is not begun again
FREE_SECONDS = 0.02  # in which slots that became free are gathered
_AT_ONCE = 64
_AGAIN_SECONDS = 0.05


class Refusals(NamedTuple):
    """What is answered to requests that are not begun."""

    deadly: Callable[[Call], Answer]
    too_many: Callable[[Call, float], Answer]  # with the seconds after which it may come again


class Reception:
    """Takes the connections that come over the line from the agent."""

    def __init__(
        self,
        server: Server,
        line: socket.socket,
        escrow: Escrow,
        refusals: Refusals,
        rate: float = 0.0,
        burst: float = 1.0,
    ):
        """`rate`: requests a second of one address, 0 for any number; `burst`: how many of them at once."""
        self.escrow = escrow
        self.refusals = refusals
        self.rate, self.burst = rate, max(1.0, burst)
        self._server = server
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._freed: list[int] = []
        self._opening: set[asyncio.Task[Any]] = set()
        self._trials: deque[tuple[Kept, Call]] = deque()
        self._trial: Kept | None = None
        self._next_trial: asyncio.TimerHandle | None = None

    async def start(self, _listen: socket.socket) -> None:
        """Take connections. The socket that listens is the agent's to accept from."""
        await self._server.start(None)
        self._line.setblocking(False)
        self._loop.add_reader(self._line, self._arrived)

    async def stop(self, grace: float) -> None:
        """Take no more, and answer what has arrived within the grace (seconds); the connections are left to the agent, which
        gives them to another process, as it does with those that are on their way.
        """
        self._loop.remove_reader(self._line)
        self._tell()
        if self._opening:
            await asyncio.wait(self._opening, timeout=grace)
        await self._server.leave(grace)

    def free(self, number: int) -> None:
        """Say that a connection is over, so that the agent lets go of it."""
        if not self._freed:
            self._loop.call_later(FREE_SECONDS, self._tell)
        self._freed.append(number)

    def try_alone(self, connection: "Kept", call: Call) -> None:
        """Begin a request that may have killed a process, when those before it are done."""
        self._trials.append((connection, call))
        if self._trial is None:
            self._begin_trial()

    def passed(self, connection: "Kept") -> None:
        """A request that was begun alone is done."""
        if self._trial is connection:
            self._begin_trial()

    def _begin_trial(self) -> None:
        if self._next_trial is not None:
            self._next_trial.cancel()
            self._next_trial = None
        self._trial = None
        while self._trials:
            connection, call = self._trials.popleft()
            if connection.awaits(call):
                self._trial = connection
                self._next_trial = self._loop.call_later(TRIAL_SECONDS, self._begin_trial)
                self._loop.call_soon(connection.begin_trial, call)
                return

    def _tell(self) -> None:
        if self._freed:
            try:
                self._line.send(struct.pack(f"<{len(self._freed)}I", *self._freed))
                self._freed.clear()
            except BlockingIOError:
                self._loop.call_later(_AGAIN_SECONDS, self._tell)
            except OSError:
                self._freed.clear()  # the agent is gone, and its hold with it

    def _arrived(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, files, _, _ = socket.recv_fds(self._line, PASS.size, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, files = b"", []
            if not data:  # the agent is gone: this process ends as well
                self._loop.remove_reader(self._line)
                return
            how, number, bucket = PASS.unpack(data)
            self._open(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, files[0]), Passed(how), number, bucket)

    def _open(self, given: socket.socket, how: Passed, number: int, bucket: int) -> None:
        slot = self.escrow.slot(number)
        now = None if how == Passed.NEW else standing(given)
        connection = Kept(self._server, self, given, slot, number, bucket)
        if how != Passed.NEW and not connection.inherit(now, TRIALS.get(how, 0)):
            slot.close()
            _end(given)
            given.close()
            self.free(number)
            return
        made: Callable[[], Any] = lambda: connection  # noqa: E731
        task = self._loop.create_task(self._loop.connect_accepted_socket(made, given))
        self._opening.add(task)
        task.add_done_callback(lambda done: self._opened(done, connection))

    def _opened(self, task: asyncio.Task[Any], connection: "Kept") -> None:
        self._opening.discard(task)
        if not task.cancelled() and task.exception() is not None:  # the client is gone already
            connection.connection_lost(None)


class Kept(Connection):
    """A connection whose requests outlive the process."""

    __slots__ = ("_bucket", "_number", "_on_trial", "_past", "_reception", "_skip", "_slot", "_socket", "_suspect")

    def __init__(
        self, server: Server, reception: Reception, given: socket.socket, slot: Slot, number: int, bucket: int
    ):
        super().__init__(server)
        self._reception = reception
        self._socket = given
        self._slot = slot
        self._number = number
        self._bucket = bucket if reception.rate else NO_BUCKET
        self._past = b""  # what the client sent to the process before
        self._skip = 0  # requests in it that are answered
        self._suspect = 0  # the next request may have killed a process; after how many trials it is not begun again
        self._on_trial = False

    def inherit(self, now: Standing | None, trials: int) -> bool:
        """Take over from a process that is gone; say whether there is anything to go on with. `trials`: how often a request that
        it had begun may have been begun again; 0: it has nothing against it.
        """
        past = None if now is None else self._slot.inherit(now)
        if past is None:
            return False
        self._past, self._skip = past.data, past.skip
        self._suspect = trials
        return True

    def connection_made(self, transport: Any) -> None:
        """Take the connection, with what its client has sent before."""
        super().connection_made(transport)
        past, self._past = self._past, b""
        if self._server.leaving:
            self.rest()
        if self._server.left:
            self.abandon()
        if past and not self._failed:
            self._parse(past, alone=False)
        self._suspect = 0  # whatever comes now has killed nobody

    def connection_lost(self, error: Exception | None) -> None:
        """Hang up, also for the agent."""
        super().connection_lost(error)
        self._slot.close()
        _end(self._socket)
        self._reception.free(self._number)
        if self._on_trial:
            self._reception.passed(self)

    def get_buffer(self, _hint: int) -> memoryview:
        """Return where the next bytes go: to the front, when nothing is open."""
        slot = self._slot
        if (
            slot.used
            and self._current is None
            and self._call is None
            and not self._waiting
            and not self._transport.get_write_buffer_size()
        ):
            slot.empty()
        return slot.room()

    def buffer_updated(self, size: int) -> None:
        """Take what came."""
        self.data_received(self._slot.took(size))
        if self._waiting and not self._paused and self._slot.used > AHEAD_BYTES:
            self._paused = True
            self._transport.pause_reading()

    @property
    def _may_read(self) -> bool:
        if self._slot.used > AHEAD_BYTES:
            return not self._waiting and self._current is None
        return len(self._waiting) < AHEAD // 2

    def on_headers_complete(self) -> None:
        """Look at the headers, unless they are those of a request that is answered."""
        if not self._skip:
            super().on_headers_complete()

    def _whole(self) -> None:
        if self._skip:
            self._skip -= 1
            self._call, self._chunks, self._reading = None, [], False
        else:
            super()._whole()

    def _begin(self, call: Call) -> None:
        if self._suspect:
            trials, self._suspect = self._suspect, 0
            self._current = call
            call.start = time.perf_counter()
            if self._slot.tries >= trials:
                self._on_trial = True
                self.send(call, self._reception.refusals.deadly(call))
            else:
                self._reception.try_alone(self, call)
            return
        if self._bucket != NO_BUCKET:
            after = self._reception.escrow.ask(self._bucket, self._reception.rate, self._reception.burst)
            if after:
                self._current = call
                call.start = time.perf_counter()
                self.send(call, self._reception.refusals.too_many(call, after))
                return
        self._current = call
        call.start = time.perf_counter()
        self._server.handler.handle(call)

    def awaits(self, call: Call) -> bool:
        """Whether the client still waits for the answer."""
        return self._transport is not None and self._current is call

    def begin_trial(self, call: Call) -> None:
        """Begin a request again, during which a process died."""
        if self.awaits(call):
            self._slot.tries += 1
            self._on_trial = True
            self._server.handler.handle(call)
        else:
            self._reception.passed(self)

    def _put(self, data: bytes, kind: Kind) -> None:
        if self._on_trial and kind <= Kind.LAST:
            self._on_trial = False
            self._slot.tries = 0
            self._reception.passed(self)
        self._slot.writes(len(data), kind)
        self._transport.write(data)


def _end(connection: socket.socket) -> None:
    """Shut a connection down for all who hold it."""
    with contextlib.suppress(OSError):  # the client was first
        connection.shutdown(socket.SHUT_RDWR)
