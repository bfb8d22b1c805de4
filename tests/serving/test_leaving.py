"""A process of the plane that ends in order leaves its connections: what it was asked, it or the next one answers, once."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from leptonai.serving import escrow
from leptonai.serving.escrow import Escrow, Passed
from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.http import AHEAD
from leptonai.serving.plane.reception import NO_BUCKET, PASS, Reception, Refusals
from leptonai.serving.plane.server import Server

GRACE = 30.0  # seconds: never over


class Held:
    """A handler that answers when it is told to; each answer says who gave it, and to what."""

    def __init__(self, name: str):
        self.name = name
        self.taken = 0
        self.closed = False  # it has no routes any more
        self._calls: list[Call] = []

    def handle(self, call: Call) -> None:
        if self.closed:
            call.answer(Answer(401, b""))
        else:
            self.taken += 1
            self._calls.append(call)

    def answer(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call.answer(Answer(200, f"{self.name} {call.url.decode()}".encode()))


class Process:
    """What takes connections in one process of the plane, and the agent's end of the line to it."""

    def __init__(self, name: str, memory: int):
        self.handler = Held(name)
        self.line, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._escrow = Escrow(memory, 1)
        self._server = Server(self.handler)
        refusals = Refusals(lambda call: Answer(500, call.url), lambda call, _after: Answer(500, call.url))
        self._reception = Reception(self._server, self._theirs, self._escrow, refusals)

    async def start(self) -> None:
        await self._reception.start(self._theirs)

    def give(self, connection: socket.socket, how: Passed) -> None:
        socket.send_fds(self.line, [PASS.pack(how, 0, NO_BUCKET)], [connection.fileno()])

    def leave(self, grace: float) -> "asyncio.Task[None]":
        return asyncio.create_task(self._reception.stop(grace))

    @property
    def connected(self) -> bool:
        return bool(self._server.connections)

    @property
    def pausing(self) -> bool:
        return any(connection._paused for connection in self._server.connections)

    async def close(self) -> None:
        """Hang up, when nothing is asked any more."""
        await self._server.stop(0)
        while self._server.connections:
            await asyncio.sleep(0.001)
        self.line.close()
        self._theirs.close()


class Scene:
    """A client that sends as much as it likes, the agent's hold of its connection, and two processes."""

    def __init__(self, memory: int):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = socket.create_connection(listening.getsockname())
            self.hold, _ = listening.accept()
        self.old, self.new = Process("old", memory), Process("new", memory)
        self.sent = 0

    def ask(self, count: int) -> None:
        heads = (b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (self.sent + n) for n in range(count))
        self.client.sendall(b"".join(heads))
        self.sent += count


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    memory = escrow.make(1)
    made = Scene(memory)
    try:
        for process in (made.old, made.new):
            await process.start()
        yield made
    finally:
        for process in (made.old, made.new):
            await process.close()
        made.client.close()
        made.hold.close()
        os.close(memory)


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(story(), 60))


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


async def answers(client: socket.socket, count: int) -> list[str]:
    """Read so many answers, each of which must be a good one, and return what they say."""
    reader, writer = await asyncio.open_connection(sock=client.dup())
    found = []
    try:
        for _ in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            found.append((await reader.readexactly(size)).decode())
    finally:
        writer.transport.abort()
    return found


def test_what_a_client_sends_further_ahead_than_is_taken_is_left_to_the_next_process() -> None:
    async def story() -> None:
        async with scene() as made:
            old = made.old
            old.give(made.hold, Passed.NEW)
            made.ask(2 * AHEAD)
            await until(lambda: old.pausing)
            made.ask(2 * AHEAD)
            leaving = old.leave(GRACE)
            while not leaving.done():
                old.handler.answer()
                await asyncio.sleep(0)
            old.handler.closed = True  # as `serving.plane.main` does now
            made.ask(3)
            await asyncio.sleep(0.05)
            made.new.give(made.hold, Passed.HANDED)
            reading = asyncio.create_task(answers(made.client, made.sent))
            while not reading.done():
                made.new.handler.answer()
                await asyncio.sleep(0.001)
            told = reading.result()
            assert [line.split("/")[1] for line in told] == [str(n) for n in range(made.sent)]
            taken = [line.split()[0] for line in told].count("old")
            assert 0 < taken <= 2 * AHEAD, "it answers what it had read, and reads no more"

    run(story)


def test_what_is_not_answered_within_the_grace_another_one_answers() -> None:
    async def story() -> None:
        async with scene() as made:
            old = made.old
            old.give(made.hold, Passed.NEW)
            made.ask(3)
            await until(lambda: old.handler.taken == 1)
            await old.leave(0.0)
            old.handler.closed = True
            old.handler.answer()  # too late: the next one is asked already
            await asyncio.sleep(0.01)
            made.new.give(made.hold, Passed.HANDED)
            reading = asyncio.create_task(answers(made.client, 3))
            while not reading.done():
                made.new.handler.answer()
                await asyncio.sleep(0.001)
            assert reading.result() == ["new /0", "new /1", "new /2"]

    run(story)


@pytest.mark.parametrize("grace", [GRACE, 0.0])
def test_a_connection_that_arrives_while_a_process_leaves_is_answered_once(grace: float) -> None:
    async def story() -> None:
        async with scene() as made:
            old = made.old
            made.ask(1)
            old.give(made.hold, Passed.NEW)
            old._reception._arrived()  # taken, and not made yet
            leaving = old.leave(grace)
            await until(lambda: old.connected)
            while not leaving.done():
                old.handler.answer()
                await asyncio.sleep(0)
            old.handler.closed = True
            made.new.give(made.hold, Passed.HANDED)
            made.ask(2)
            reading = asyncio.create_task(answers(made.client, 3))
            while not reading.done():
                made.new.handler.answer()
                await asyncio.sleep(0.001)
            assert [line.split("/")[1] for line in reading.result()] == ["0", "1", "2"]

    run(story)
