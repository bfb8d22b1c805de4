"""Answers in pieces, as clients of all kinds read them: at once, slowly, in HTTP/1.0, and not to the end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from leptonai.serving.plane import http
from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.server import Server
from leptonai.serving.plane.stream import Stream

PLAIN = b"content-type: text/plain\r\n"


class Pieces:
    """A handler that streams what its function writes."""

    def __init__(self, make: Callable[[Stream], Coroutine[Any, Any, None]]):
        self.make = make
        self.made: list[asyncio.Task[None]] = []
        self.gone = asyncio.Event()

    def handle(self, call: Call) -> None:
        if call.url == b"/whole":
            call.answer(Answer(200, b"whole", PLAIN))
            return
        stream = call.begin(200, PLAIN)
        stream.gone = self.gone.set
        self.made.append(asyncio.create_task(self.make(stream)))


@asynccontextmanager
async def serving(make: Callable[[Stream], Coroutine[Any, Any, None]]) -> AsyncIterator[tuple[Pieces, int]]:
    handler = Pieces(make)
    server = Server(handler)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await server.start(listening)
        try:
            yield handler, listening.getsockname()[1]
        finally:
            for task in handler.made:
                task.cancel()
            await asyncio.gather(*handler.made, return_exceptions=True)
            await server.stop(0.1)
            await asyncio.sleep(0)


def run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test)


async def three(stream: Stream) -> None:
    for piece in (b"one ", b"", b"two ", b"three"):
        assert stream.write(piece)
        await asyncio.sleep(0.001)
    stream.end()


def ask(target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    return b"GET %s HTTP/%s\r\nhost: localhost\r\n\r\n" % (target, version)


def test_chunks_and_then_the_next_request_on_the_same_connection() -> None:
    async def test() -> None:
        async with serving(three) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ask() + ask(b"/whole"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"transfer-encoding: chunked\r\n" in head
            assert b"content-length" not in head
            body = await reader.readuntil(b"0\r\n\r\n")
            assert body == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"
            assert (await reader.readuntil(b"whole")).startswith(b"HTTP/1.1 200 OK\r\n")
            writer.close()

    run(test())


def test_an_old_client_gets_a_body_that_ends_with_its_connection() -> None:
    async def test() -> None:
        async with serving(three) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ask(version=b"1.0"))
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert b"chunked" not in head
            assert b"connection: close" in head
            assert body == b"one two three"
            writer.close()

    run(test())


def test_what_failed_in_the_middle_is_not_taken_for_whole() -> None:
    async def half(stream: Stream) -> None:
        stream.write(b"half")
        stream.cut()
        assert not stream.write(b"more")

    async def test() -> None:
        async with serving(half) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ask())
            assert (await reader.read()).endswith(b"4\r\nhalf\r\n")
            writer.close()

    run(test())


def test_a_client_that_hangs_up_is_noticed_while_nothing_is_written() -> None:
    async def silent(stream: Stream) -> None:
        stream.write(b"begun")
        await asyncio.Event().wait()

    async def test() -> None:
        async with serving(silent) as (handler, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(ask())
            await reader.readuntil(b"begun")
            writer.close()
            await asyncio.wait_for(handler.gone.wait(), 5)

    run(test())


def test_a_maker_waits_for_a_client_that_reads_slowly_and_nothing_is_lost() -> None:
    piece = bytes(range(256)) * 256
    waits = []

    async def patient(stream: Stream) -> None:
        for _ in range(200):
            if not stream.write(piece):
                waits.append(stream.sent)
                assert await stream.room()
        stream.end()

    async def test() -> None:
        async with serving(patient) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
            writer.write(ask())
            await asyncio.sleep(0.05)
            assert waits
            assert waits[0] < 100 * len(piece)
            await reader.readuntil(b"\r\n\r\n")
            received = 0
            while size := int(await reader.readline(), 16):
                assert await reader.readexactly(size) == piece
                await reader.readexactly(2)
                received += 1
            assert received == 200
            writer.close()

    run(test())


def test_a_client_that_never_reads_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "UNREAD_SECONDS", 0.05)
    monkeypatch.setattr(http, "SWEEP_SECONDS", 0.02)

    async def patient(stream: Stream) -> None:
        while await stream.room():
            stream.write(bytes(100_000))

    async def test() -> None:
        async with serving(patient) as (handler, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**10)
            writer.write(ask())
            await asyncio.wait_for(handler.gone.wait(), 5)
            await asyncio.wait_for(handler.made[0], 5)
            writer.close()

    run(test())


def test_a_maker_that_does_not_wait_is_stopped() -> None:
    async def careless(stream: Stream) -> None:
        while stream.open:
            stream.write(bytes(100_000))
            await asyncio.sleep(0)

    async def test() -> None:
        async with serving(careless) as (handler, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**10)
            writer.write(ask())
            await asyncio.wait_for(handler.gone.wait(), 5)
            writer.close()

    run(test())
