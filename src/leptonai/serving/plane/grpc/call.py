"""gRPC over HTTP/2: calls of one message and conversations of many, above streams and below what they are about.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

from leptonai.core.errors import TooLarge
from leptonai.serving.plane.grpc import status, wire
from leptonai.serving.plane.grpc.status import Failed, Status
from leptonai.serving.plane.grpc.streams import Stream
from leptonai.serving.plane.http import BODY_LIMIT

AHEAD = 64  # messages of one conversation that are worked on at once
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
_STOPPING = "this serving process is stopping: call again"
_ACCEPTED = wire.field(b"grpc-accept-encoding", b"identity,deflate,gzip")


class Unary:
    """A call with one message each way."""

    __slots__ = ("_chunks", "_do", "_size", "ended", "start", "stream")

    def __init__(self, stream: Stream, do: "Callable[[Unary, bytes], None]"):
        self.stream = stream
        self.start = 0.0  # when it had arrived, of `time.perf_counter`
        self.ended = False
        self._do = do
        self._chunks: list[bytes] = []
        self._size = 0

    def take(self, data: bytes, ended: bool) -> None:
        """Take a piece of the message; when it is whole, do what is asked."""
        self._size += len(data)
        try:
            if self._size > BODY_LIMIT + 5:
                raise _too_large()
            if not ended:
                self._chunks.append(data)
                return
            if self._chunks:
                data = b"".join((*self._chunks, data))
                self._chunks = []
            self.start = time.perf_counter()
            self._do(self, _only(data, self.stream))
        except Exception as error:  # noqa: BLE001 - whatever it is, the call is answered and the plane goes on
            self.fail(error)

    def gone(self) -> None:
        """Forget the call; what is computed for it goes to nobody."""
        self.ended = True
        self._chunks = []

    def leave(self) -> None:
        """Go on: it is answered soon."""

    def reply(self, message: bytes, trailers: bytes = b"") -> bool:
        """Answer; `trailers`: header fields besides the status. Returns whether anybody waits for it."""
        if self.ended:
            return False
        self.ended = True
        self.stream.answer(message, status.OK_LINE + trailers)
        return True

    def fail(self, error: Exception, more: bytes = b"") -> Status:
        """Answer with an error, and return its status."""
        found, trailers = status.trailers(error)
        if self.ended:
            return Status.CANCELLED
        self.ended = True
        self._chunks = []
        self.stream.end(trailers + more + (_ACCEPTED if found is Status.UNIMPLEMENTED else b""))
        return found


class Turn:
    """What is owed to one message of a conversation."""

    __slots__ = ("_talk", "answer", "start")

    def __init__(self, talk: "Talk"):
        self._talk = talk
        self.start = time.perf_counter()
        self.answer: bytes | None = None

    def say(self, message: bytes) -> bool:
        """Answer it, when those before it are answered. Returns whether anybody waits for that."""
        self.answer = message
        return self._talk.answered()


class Talk:
    """A conversation: messages come and are answered, in their order, until the caller says that he is done."""

    __slots__ = ("_buffer", "_do", "_last", "_leaving", "_turns", "ended", "endless", "stream")

    def __init__(self, stream: Stream, do: "Callable[[Talk, Turn, bytes], None]"):
        self.stream = stream
        self.ended = False
        self._do = do
        self._buffer = bytearray()
        self._turns: deque[Turn] = deque()
        self._last = False  # the caller is done
        self._leaving = False
        self.endless = False  # nobody waits for its end
        stream.lasting = True

    def take(self, data: bytes, ended: bool) -> None:
        """Take a piece of the messages."""
        self._last = self._last or ended
        self._buffer += data
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001 - as in `Unary.take`
            self.fail(error)

    def gone(self) -> None:
        """Forget it."""
        self.ended = True
        self._buffer.clear()

    def leave(self) -> None:
        """Take no more messages, and end when those that came are answered: the plane stops."""
        self._leaving = True
        if self.endless:
            self.fail(Failed(Status.UNAVAILABLE, _STOPPING))
        self.answered()

    def say(self, message: bytes) -> None:
        """Send a message out of turn."""
        if not self.ended:
            self.stream.send(message)

    def answered(self) -> bool:
        """Send the answers that are due. Returns whether anybody waits for them."""
        if self.ended:
            return False
        while self._turns and (answer := self._turns[0].answer) is not None:
            self._turns.popleft()
            self.stream.send(answer)
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001 - as in `Unary.take`
            self.fail(error)
        return True

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        if not self.ended:
            self.ended = True
            self._buffer.clear()
            self.stream.end(status.trailers(error)[1])

    def _go_on(self) -> None:
        """Begin with the messages that are whole, and end when nothing is left to do."""
        whole = None
        while not self.ended:
            whole = _size(self._buffer)
            if whole is None or len(self._turns) >= AHEAD or self.stream.waiting or self._leaving:
                break
            message = bytes(self._buffer[: 5 + whole])
            del self._buffer[: 5 + whole]
            self.stream.connection.used(self.stream, len(message))
            turn = Turn(self)
            self._turns.append(turn)
            self._do(self, turn, _plain(message, self.stream))
        if self.ended:
            return
        if whole is not None:
            self.stream.stalled = True
        elif self.stream.stalled:
            self.stream.resume()
        if self._turns or self.stream.waiting:
            return
        if self._leaving:
            raise Failed(Status.UNAVAILABLE, _STOPPING)
        if self._last and whole is None:
            if self._buffer:
                raise Failed(Status.INTERNAL, "the last message is cut off")
            self.ended = True
            self.stream.end(status.OK_LINE)


class Refusal:
    """A call that is answered already."""

    def take(self, data: bytes, ended: bool) -> None:
        """Throw away what still comes."""

    def gone(self) -> None:
        """Nothing is to be forgotten."""

    def leave(self) -> None:
        """It is over already."""


REFUSED = Refusal()


def _size(buffer: bytes | bytearray) -> int | None:
    """Return the length of the first message, None while it is not whole. Raises `TooLarge`."""
    if len(buffer) < 5:
        return None
    size = int.from_bytes(buffer[1:5], "big")
    if size > BODY_LIMIT:
        raise _too_large()
    return size if len(buffer) >= 5 + size else None


def _only(data: bytes, stream: Stream) -> bytes:
    """Return the one message of a body. Raises `Failed`, `TooLarge`."""
    size = _size(data)
    if size is None:
        raise Failed(Status.UNIMPLEMENTED if not data else Status.INTERNAL, "the call must carry one whole message")
    if len(data) > 5 + size:
        raise Failed(Status.UNIMPLEMENTED, "the call must carry one message, and carries more")
    return _plain(data, stream)


def _plain(framed: bytes, stream: Stream) -> bytes:
    """Return a message without its frame, unpacked where it is packed. Raises `Failed`, `TooLarge`."""
    if framed[0] == 0:
        return framed[5:]
    encoding = stream.head.fields.get(b"grpc-encoding", b"identity")
    if framed[0] != 1 or encoding == b"identity":
        raise Failed(Status.INTERNAL, "a message says that it is packed, and grpc-encoding does not say how")
    if encoding not in _WINDOW_BITS:
        name = encoding[:40].decode("latin-1")
        raise Failed(Status.UNIMPLEMENTED, f"messages packed by {name!r} are not read: use gzip, deflate or none")
    unpack: Any = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        data: bytes = unpack.decompress(framed[5:], BODY_LIMIT + 1)
    except zlib.error:
        raise Failed(Status.INTERNAL, "a message cannot be unpacked") from None
    if len(data) > BODY_LIMIT:
        raise _too_large()
    if not unpack.eof or unpack.unused_data:
        raise Failed(Status.INTERNAL, "a message cannot be unpacked")
    return data


def _too_large() -> TooLarge:
    return TooLarge(f"the message is larger than {BODY_LIMIT} bytes, which is the limit: send fewer rows at once")
