"""One request on a connection as HTTP/2 sees it: what arrives, what waits to be sent, and how much each side may send."""

from collections import deque
from typing import TYPE_CHECKING, Protocol

from leptonai.serving.plane.grpc import wire
from leptonai.serving.plane.grpc.heads import Head

if TYPE_CHECKING:
    from leptonai.serving.plane.grpc.connection import Connection

STREAM_WINDOW = 2**20  # bytes that a caller may send ahead on one stream

_CONTENT = wire.field(b"content-type", b"application/grpc")
OPENING = wire.status(200) + _CONTENT
_HEAD = len(OPENING) << 8 | wire.HEADERS


class Taker(Protocol):
    """The call that a stream carries."""

    def take(self, data: bytes, ended: bool) -> None:
        """Take a piece of the body; `ended`: nothing more comes."""

    def leave(self) -> None:
        """Come to an end: the plane stops."""

    def gone(self) -> None:
        """Nobody waits for the answer any more."""


class Stream:
    """A stream that is open. Its windows count what may still be sent, in bytes."""

    __slots__ = (
        "begun", "begun_body", "connection", "ended", "head", "held", "id", "lasting", "owed", "peer_room", "room", "since",
        "stalled", "tail", "taker", "waiting",
    )  # fmt: skip

    def __init__(self, connection: "Connection", id: int, head: Head, peer_room: int, now: float):
        self.connection = connection
        self.id = id
        self.head = head
        self.taker: Taker | None = None
        self.ended = False  # by the caller: his half is complete
        self.room = STREAM_WINDOW  # for what the caller sends
        self.owed = 0  # bytes that came since he was last told that he may send more
        self.held = 0  # bytes that came and were not used yet
        self.stalled = False  # nothing more is wanted for now
        self.peer_room = peer_room  # for what we send
        self.begun = False  # our headers are sent
        self.waiting: deque[bytes] = deque()  # what there was no room for
        self.tail: bytes | None = None  # our trailers, after that
        self.since = now  # when something last moved
        self.begun_body = now  # when the first of what is held came
        self.lasting = False  # a conversation, which may be silent for long

    @property
    def open(self) -> bool:
        """Whether the caller still wants something."""
        return self.connection.has(self)

    def answer(self, message: bytes, trailers: bytes) -> None:
        """Send headers, the one message and the trailers, and end the stream."""
        size, id = len(message) + 5, self.id
        if not self.open:
            return
        if self.begun or not self.connection.room(self, size):
            self.send(message)
            self.end(trailers)
            return
        pack = wire.FRAME.pack
        self.connection.finish(
            self,
            b"".join(
                (
                    pack(_HEAD, wire.END_HEADERS, id), OPENING,
                    pack(size << 8, 0, id), b"\0", wire.WORD.pack(size - 5), message,
                    pack(len(trailers) << 8 | wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, id), trailers,
                )
            ),
            size,
        )  # fmt: skip

    def send(self, message: bytes) -> None:
        """Send one message of several, after the headers."""
        if self.open:
            if not self.begun:
                self.begun = True
                opening = self.connection.peer.opening(OPENING)
                self.connection.write(wire.frame(wire.HEADERS, wire.END_HEADERS, self.id, opening))
            self.waiting.append(b"\0" + wire.WORD.pack(len(message)) + message)
            self.connection.pump(self)

    def end(self, trailers: bytes) -> None:
        """Send the trailers when all messages are sent, and end the stream. Before any message they are all there is."""
        if self.open:
            self.tail = trailers if self.begun else self.connection.peer.opening(OPENING + trailers)
            self.connection.pump(self)

    def refuse(self, status: int, message: str) -> None:
        """Answer what is no gRPC with a status of HTTP."""
        lines = ((b"content-type", b"text/plain; charset=utf-8"), (b"grpc-message", message.encode()))
        self.tail = self.connection.peer.opening(wire.status(status) + wire.fields(lines))
        self.connection.pump(self)

    def resume(self) -> None:
        """Want more again."""
        self.stalled = False
        self.connection.allow_more(self)
