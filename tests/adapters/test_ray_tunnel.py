"""Lines between two machines of a cluster: what is said and what is sent over them arrives, and nobody else gets one."""

import asyncio
import contextlib
import fcntl
import os
import socket
import ssl
from collections.abc import Awaitable, Callable

import pytest

from leptonai.adapters.executors.ray_tunnel import Identity, carry_here, carry_there, hear, said

Take = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(take: Take, mine: Identity, theirs: Identity):
    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=mine.context(theirs.certificate, listens=True))
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.settimeout(10)
    return ours, theirs


def converse(talk: Callable[[socket.socket, socket.socket], None]) -> None:
    """Have a caller's socket and a job's carried to each other by two ends; `talk` is called with both, in a thread."""

    async def main() -> None:
        here, there = Identity(), Identity()
        caller, near = pair()
        job, far = pair()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await carry_here(far, reader, writer)

        async with listening(take, there, here) as port:
            context = here.context(there.certificate, listens=False)
            carried = asyncio.ensure_future(
                carry_there(near, *await asyncio.open_connection("127.0.0.1", port, ssl=context))
            )
            await asyncio.to_thread(talk, caller, job)
            await asyncio.wait_for(carried, 10)

    asyncio.run(main())


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data)) or pytest.fail("it hung up")
    return data


def test_what_is_said_arrives_both_ways_with_the_files_and_all_before_the_end() -> None:
    large = os.urandom(3_000_000)
    number = os.memfd_create("file")
    os.write(number, large)

    def talk(caller: socket.socket, job: socket.socket) -> None:
        caller.sendall(b"before")
        socket.send_fds(caller, [b"f"], [number])
        socket.send_fds(caller, [b"f"], [number])
        caller.sendall(b"after")
        assert exactly(job, 6) == b"before"
        for _ in range(2):
            word, files, _, _ = socket.recv_fds(job, 1, 1)
            assert word == b"f"
            assert os.pread(files[0], 4_000_000, 0) == large
            assert fcntl.fcntl(files[0], fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
            os.close(files[0])
        assert exactly(job, 5) == b"after"
        job.sendall(large[:1000])
        job.close()  # what it said before arrives, then the end
        assert exactly(caller, 1000) == large[:1000]
        assert caller.recv(1) == b""
        caller.close()

    converse(talk)
    os.close(number)


def test_a_caller_that_hangs_up_is_told_to_the_job() -> None:
    def talk(caller: socket.socket, job: socket.socket) -> None:
        caller.sendall(b"x" * 400_000)
        assert exactly(job, 400_000) == b"x" * 400_000
        caller.close()
        assert job.recv(1) == b""
        job.close()

    converse(talk)


@pytest.mark.parametrize("who", ["nobody", "another"])
def test_who_has_another_certificate_or_none_is_refused(who: str) -> None:
    heard: list[object] = []

    async def main() -> None:
        mine, theirs, another = Identity(), Identity(), Identity()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await hear(reader))
            writer.close()

        async with listening(take, mine, theirs) as port:
            if who == "another":
                context = another.context(mine.certificate, listens=False)
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                writer.write(said({"job": {}}))
                await reader.readexactly(1)
            own = theirs.context(
                another.certificate, listens=False
            )  # a listener that is another one is refused as well
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", port, ssl=own)

    asyncio.run(main())
    assert not heard or heard == [None]


def test_a_message_that_is_none_is_not_taken() -> None:
    async def main() -> None:
        for data in (b"\0\0\0\2no", b"\xff\xff\xff\xff{}", b"\0\0\0\2[]", b"\0\0\0\5{}", b""):
            reader = asyncio.StreamReader()
            reader.feed_data(data)
            reader.feed_eof()
            assert await hear(reader) is None
        reader = asyncio.StreamReader()
        reader.feed_data(said({"stop": 1.0}))
        assert await hear(reader) == {"stop": 1.0}

    asyncio.run(main())
