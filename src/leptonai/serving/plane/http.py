"""HTTP/1.1 as the plane speaks it: httptools parses, this answers, and no coroutine stands between the two.

What a parser leaves open is settled here: the headers of a request must be complete within seconds and be small, its body must
come at a least rate and have a largest size, idle connections are closed, and there are only so many of them. Requests on one
connection are answered in their order, one at a time; what a client sends ahead waits in its own socket.
"""

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools

from leptonai.serving.escrow import Kind
from leptonai.serving.plane.body import trap
from leptonai.serving.plane.call import Answer, Call, Form
from leptonai.serving.plane.heads import ID, STARTS, answer_head
from leptonai.serving.plane.stream import Stream

if TYPE_CHECKING:
    from leptonai.serving.plane.server import Server

HEADER_SECONDS = 10.0
BODY_SECONDS = 15.0
BODY_RATE = 1024  # bytes a second that a slow body must keep after its first seconds
UNREAD_SECONDS = 30.0  # for a client to read what it was sent
IDLE_SECONDS = 75.0  # between two requests
LINGER_SECONDS = 10.0  # for a client to notice that it was refused, while what it still sends is thrown away
HEADER_LIMIT = 64 * 2**10
BODY_LIMIT = 16 * 2**20
LOOK_BYTES = 64 * 2**10  # of a body, after which it is looked at whether more of it is wanted
CONNECTIONS = 4096
FORMS = 1024  # heads of requests that are remembered
FORM_BYTES = 2048  # of one that is
AHEAD = 16  # requests that a client may send before it has read the answers
SWEEP_SECONDS = 1.0

_ONCE = frozenset({b"host", b"content-type", b"authorization", b"inference-header-content-length", b"traceparent"})
_ALWAYS_NEW = (
    b"x-request-id",
    b"traceparent",
    b"transfer-encoding",
    b"expect",
    b"upgrade",
)  # no head with them is remembered
_BAD = b"content-length: 0\r\nconnection: close\r\n\r\n"


class Connection:
    """One client. It is a protocol of asyncio, and no `asyncio.BaseProtocol`: a class that is compiled inherits from such only."""

    __slots__ = (
        "_body_bytes", "_call", "_chunks", "_current", "_cut", "_failed", "_header_bytes", "_latest", "_lingers", "_parser", "_paused", "_reading",
        "_server", "_since", "_stream", "_transport", "_waiting", "_writable",
    )  # fmt: skip

    def __init__(self, server: "Server"):
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._call: Call | None = None  # that arrives
        self._current: Call | None = None  # that is being answered
        self._latest: Call | None = None  # that was parsed, while its bytes are at hand
        self._waiting: deque[Call] = deque()
        self._chunks: list[bytes] = []
        self._header_bytes = self._body_bytes = 0
        self._reading = False  # a body
        self._since = server.loop.time()  # when what is awaited began
        self._paused = False  # reading
        self._writable = True
        self._failed = False  # nothing more of this client is read
        self._cut = False  # it was refused before it had sent everything
        self._lingers = False  # it was answered for the last time
        self._stream: Stream | None = None  # the answer that is being sent in pieces

    # ------------------------------------------------------------------------------------------- transport

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or say that there are too many."""
        self._transport = transport
        self._server.connections.add(self)
        if len(self._server.connections) > self._server.limit:
            self._refuse(503, b"retry-after: 1\r\n")

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client; what is computed for it goes to nobody."""
        self._server.connections.discard(self)
        self._transport = None
        self._failed = True
        self._waiting.clear()
        if self._stream is not None:
            self._stream.lost()
        if self._current is not None and self._current.gone is not None:
            self._current.gone()

    def pause_writing(self) -> None:
        """Begin no further request: the client does not read its answers."""
        self._writable = False
        self._since = self._server.loop.time()
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable = True
        if self._stream is not None:
            self._stream.resume()
        self._next()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a whole request whose head was seen before needs no parser."""
        if self._failed:
            self._throw_away(len(data))
            return
        alone = self._call is None and self._current is None and self._writable and not self._waiting
        if alone:
            end = data.find(b"\r\n\r\n") + 4
            form = self._server.forms.get(data[:end])
            if form is not None and len(data) - end == form.length:
                call = Call(self, form)
                call.body = data[end:]
                self._header_bytes = end
                self._begin(call)
                return
        self._parse(data, alone=alone)

    def _parse(self, data: bytes, *, alone: bool) -> None:
        try:
            self._parser.feed_data(data)
            if alone:
                self._remember(data)
            self._latest = None
        except httptools.HttpParserUpgrade:
            self._failed = True  # the request is answered as if it had not asked; what follows is not ours to parse
        except httptools.HttpParserError:
            if not self._failed:  # else a limit was met, and is answered
                self._refuse(400)

    def _remember(self, data: bytes) -> None:
        """Remember the head of a request that came whole and by itself. `data`: all that came."""
        call = self._latest
        if call is None or call.known is None or call.version != "1.1" or not call.keep:
            return
        end = data.find(b"\r\n\r\n") + 4
        alone = data[:1].isalpha() and len(data) - end == len(call.body)
        if alone and end <= FORM_BYTES and not any(name in call.headers for name in _ALWAYS_NEW):
            if len(self._server.forms) >= FORMS:
                self._server.forms.clear()
            self._server.forms[data[:end]] = Form(call.method, call.url, call.headers, len(call.body), call.known)

    def eof_received(self) -> bool:
        """Say whether to keep the half that can still be written: while an answer is due, unless it might be made for a long
        time for somebody who hung up: one in pieces, or one whose maker wants to be told."""
        if self._current is not None and self._current.gone is not None:
            self._current.gone()
            return False
        last = self._waiting[-1] if self._waiting else self._current
        if last is None or self._stream is not None:
            return False
        last.keep = False
        return True

    # ---------------------------------------------------------------------------------------------- parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._call = Call(self)
        self._chunks = []
        self._header_bytes = self._body_bytes = 0
        self._reading = False
        self._since = self._server.loop.time()

    def on_url(self, url: bytes) -> None:
        """Take the target, or a piece of it."""
        assert self._call is not None  # noqa: S101  (on_message_begin)
        self._call.url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        call = self._call
        assert call is not None  # noqa: S101  (on_message_begin)
        name = name.lower()
        if name in call.headers and name in _ONCE:
            call.repeated = name
        call.headers[name] = value
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Look at what the headers say of the body."""
        call = self._call
        assert call is not None  # noqa: S101  (on_message_begin)
        if self._failed:
            return
        parser = self._parser
        call.method = parser.get_method()
        call.version = parser.get_http_version()
        call.keep = parser.should_keep_alive() and not parser.should_upgrade()  # to what it offers nobody changes
        length = call.headers.get(b"content-length", b"")
        call.too_large = len(length) > 18 or (length.isdigit() and int(length) > self._server.body_limit)
        self._reading = True
        self._since = self._server.loop.time()
        if call.too_large:
            self._refuse_body()
        elif call.headers.get(b"expect", b"").lower() == b"100-continue" and not self._busy and not self._waiting:
            self._put(b"HTTP/1.1 100 Continue\r\n\r\n", Kind.INTERIM)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        call = self._call
        if call is None:  # it was refused
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._server.body_limit:
            call.too_large = True
            self._chunks = []
            self._refuse_body()
            return
        self._chunks.append(body)
        now = self._body_bytes - len(body) < LOOK_BYTES <= self._body_bytes
        if now and _is_json(call) and trap(b"".join(self._chunks)):
            self._refuse_body()  # it is answered for what is there: the rest could make it no better

    def on_message_complete(self) -> None:
        """Answer it, when its turn comes."""
        if not self._failed:
            self._whole()

    def _whole(self) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        self._latest = call
        self._reading = False
        self._since = self._server.loop.time()
        chunks = self._chunks
        call.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        if self._busy or self._waiting:
            self._waiting.append(call)
            if len(self._waiting) >= AHEAD and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        else:
            self._begin(call)

    def _refuse_body(self) -> None:
        """Answer at once a request whose body is too large, or no JSON that can be read, instead of waiting for the rest of it."""
        self._failed = self._cut = True
        self._whole()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_LIMIT and not self._failed:
            self._refuse(431)

    # --------------------------------------------------------------------------------------------- answers

    @property
    def _busy(self) -> bool:
        return self._current is not None or not self._writable

    def _begin(self, call: Call) -> None:
        self._current = call
        call.start = time.perf_counter()
        self._server.handler.handle(call)

    def send(self, call: Call, answer: Answer) -> None:
        """Write an answer, and begin with the request that waits."""
        if self._transport is None or self._current is not call:
            return
        keep = call.keep and not answer.close and not self._server.stopping and not self._failed
        head = self._head(call, answer.status, answer.head, b"content-length: %d\r\n" % len(answer.body), keep)
        self._put(head if call.method == b"HEAD" else head + answer.body, Kind.WHOLE if keep else Kind.LAST)
        self._answered(keep)

    def _put(self, data: bytes, _kind: Kind) -> None:
        """Write; all that is written goes this way."""
        self._transport.write(data)

    def _answered(self, keep: bool) -> None:
        self._current = None
        self._since = self._server.loop.time()
        if not keep:
            self._failed = True
            if self._cut:
                self._linger()
            else:
                self._transport.close()
        elif self._waiting or self._paused:
            self._server.loop.call_soon(self._next)  # not at once: a long row of them would fill the stack

    def _head(self, call: Call, status: int, head: bytes, framing: bytes, keep: bool) -> bytes:
        given = call.headers.get(b"x-request-id")
        call.id = given if given is not None and ID.fullmatch(given) else self._server.new_id()
        return answer_head(
            status,
            head + call.extra + framing,
            call.id,
            call.headers.get(b"traceparent"),
            keep=keep,
            old=call.version != "1.1",
        )

    def begin(self, call: Call, status: int, head: bytes) -> Stream:
        """Write the head of an answer whose pieces follow."""
        chunked = call.version == "1.1"
        if self._transport is None or self._current is not call:
            return Stream(None, chunked=chunked)
        call.keep = call.keep and chunked  # in HTTP/1.0 only the end of the connection ends such a body
        keep = call.keep and not self._server.stopping and not self._failed
        framing = b"transfer-encoding: chunked\r\n" if chunked else b""
        self._put(self._head(call, status, head, framing, keep), Kind.PIECE)
        self._stream = Stream(self, chunked=chunked)
        if not self._writable:
            self._stream.pause()
        return self._stream

    def piece(self, data: bytes) -> int:
        """Write a piece of an answer that was begun; return how many bytes of it wait here."""
        self._put(data, Kind.PIECE)
        waiting: int = self._transport.get_write_buffer_size()
        return waiting

    def finish(self, last: bytes, *, whole: bool) -> None:
        """End an answer that was begun."""
        call, self._stream = self._current, None
        assert call is not None  # noqa: S101  (it has a stream)
        keep = whole and call.keep and not self._server.stopping and not self._failed
        self._put(last, Kind.WHOLE if keep else Kind.LAST)
        self._answered(keep)

    def _next(self) -> None:
        if self._transport is None or self._busy:
            return
        if self._waiting:
            self._begin(self._waiting.popleft())
        if self._paused and not self._server.leaving and self._may_read:
            self._paused = False
            self._transport.resume_reading()

    @property
    def _may_read(self) -> bool:
        """Whether a client that was stopped may send on."""
        return len(self._waiting) < AHEAD // 2

    def _refuse(self, status: int, head: bytes = b"") -> None:
        """Answer what is no request, and hang up."""
        self._failed = True
        if self._transport is not None:
            if self._current is None:
                self._put(STARTS[status] + head + _BAD, Kind.LAST)
                if status == 503:
                    self._transport.close()
                else:
                    self._linger()
            else:
                self._current.keep = False  # the one before is still owed its answer

    def _linger(self) -> None:
        """Say that nothing more comes, and read on for a while: to hang up on what is still sent would undo the answer."""
        self._lingers = True
        self._body_bytes = 0
        self._since = self._server.loop.time()
        self._transport.write_eof()

    def _throw_away(self, size: int) -> None:
        self._body_bytes += size
        if self._lingers and self._body_bytes > 4 * self._server.body_limit:
            self.abort()

    def new_id(self) -> bytes:
        """Return an id for a request that came without one."""
        return self._server.new_id()

    # ----------------------------------------------------------------------------------------------- clock

    def look(self, now: float) -> None:
        """Hang up when what is awaited takes longer than it may."""
        if self._transport is None:
            return
        waited = now - self._since
        if self._lingers:
            late = waited > LINGER_SECONDS
        elif self._call is not None:
            late = waited > (BODY_SECONDS + self._body_bytes / BODY_RATE if self._reading else HEADER_SECONDS)
        elif self._current is not None:
            if self._stream is None or self._writable:
                return  # the answer is due from us
            late = waited > UNREAD_SECONDS  # it does not read the pieces that it was sent
        elif not self._writable:
            late = waited > UNREAD_SECONDS
        else:
            late = waited > (IDLE_SECONDS if self._header_bytes > 0 else HEADER_SECONDS)
        if late:
            self.abort()

    def close_if_idle(self) -> None:
        """Hang up, unless an answer is due."""
        if self._transport is not None and self._current is None and not self._waiting:
            self._transport.close()

    def rest(self) -> None:
        """Read nothing more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def abandon(self) -> None:
        """Answer nothing more, and leave the connection as it is: what its client waits for, another one answers."""
        call, self._current = self._current, None
        self._failed = True
        self._waiting.clear()
        if self._stream is not None:
            self._stream.lost()
            self._stream = None
        if call is not None and call.gone is not None:
            call.gone()

    @property
    def owes(self) -> bool:
        """Whether an answer is due, or is not all with the kernel."""
        if self._transport is None:
            return False
        return self._current is not None or bool(self._waiting) or self._transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()


def _is_json(call: Call) -> bool:
    """Return whether the whole body is JSON, by what its headers say."""
    return (
        b"json" in call.headers.get(b"content-type", b"json") and b"inference-header-content-length" not in call.headers
    )
