"""A request whose head was seen before goes a short way past the parser: whatever comes, it must mean the same as without."""

import asyncio
import itertools
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.http import Connection
from leptonai.serving.plane.server import Server

HEADS = st.sampled_from(
    [
        b"POST /v2/models/a/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
        b"POST /v2/models/b/infer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Length: %d\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
        b"POST /x HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: seven\r\nContent-Length: %d\r\n\r\n",
        b"\r\nPOST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
    ]
)
BODIES = st.sampled_from([b"", b"{}", b"\r\n\r\n", b"a\r\n\r\nb", b"POST / HTTP/1.1\r\n\r\n"])
REQUESTS = st.lists(
    st.one_of(
        st.tuples(HEADS, BODIES).map(lambda both: both[0] % len(both[1]) + both[1]),
        st.just(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        st.just(b"POST /c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        st.just(b"POST /c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"),
        st.just(b"nonsense\r\n\r\n"),
    ),
    min_size=1,
    max_size=8,
)


class Wire:
    """Takes what is written."""

    def __init__(self) -> None:
        self.closed = False
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def write_eof(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default


class Recorder:
    """Answers each request at once and keeps what it saw of it. `remembers`: it lets heads be remembered."""

    def __init__(self, *, remembers: bool):
        self.remembers = remembers
        self.seen: list[tuple[Any, ...]] = []
        self.short = 0

    def handle(self, call: Call) -> None:
        self.short += call.known is not None
        self.seen.append((call.method, call.url, call.headers, call.body, call.keep, call.repeated))
        if self.remembers and call.repeated is None:
            call.known = "known"
        call.answer(Answer(200, b"{}"))


async def run(chunks: list[bytes], *, remembers: bool) -> tuple[Recorder, list[bytes], bool]:
    """Return what was seen and written when chunks arrive at one connection, each after the one before was dealt with."""
    handler = Recorder(remembers=remembers)
    server = Server(handler)
    wire, connection = Wire(), Connection(server)
    connection.connection_made(wire)
    for chunk in chunks:
        connection.data_received(chunk)
        for _ in range(12):
            await asyncio.sleep(0)
    written = [re.sub(rb"x-request-id: [0-9a-f]{12}-[0-9a-f]+", b"x-request-id: its", data) for data in wire.written]
    return handler, written, wire.closed


@settings(deadline=None, max_examples=200)
@given(requests=REQUESTS, cuts=st.lists(st.integers(0, 400), max_size=6), whole=st.booleans())
def test_a_remembered_head_means_what_the_parser_would_have_found(
    requests: list[bytes], cuts: list[int], whole: bool
) -> None:
    stream = b"".join(requests)
    edges = [0, *sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    chunks = requests * 2 if whole else [stream[a:b] for a, b in itertools.pairwise(edges)] * 2
    parsed, said, closed = asyncio.run(run(chunks, remembers=False))
    found, told, also = asyncio.run(run(chunks, remembers=True))
    assert found.seen == parsed.seen
    assert (told, also) == (said, closed)


def test_the_same_head_is_parsed_once() -> None:
    request = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    handler, written, _ = asyncio.run(run([request] * 3, remembers=True))
    assert handler.short == 2
    assert len(written) == 3
    assert [seen[3] for seen in handler.seen] == [b"{}"] * 3


def test_what_the_handler_refuses_is_not_remembered() -> None:
    request = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    handler, _, _ = asyncio.run(run([request] * 3, remembers=False))
    assert handler.short == 0


def test_there_are_only_so_many_remembered_heads() -> None:
    chunks = [b"POST /%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}" % n for n in range(3000)]
    handler, written, _ = asyncio.run(run(chunks[:2000], remembers=True))
    assert len(written) == len(handler.seen) == 2000
