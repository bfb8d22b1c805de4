"""An answer in pieces: what a client is sent while more of it is being made.

::

    stream = call.begin(200, b"content-type: text/event-stream\\r\\n")
    stream.gone = cancel            # called once, when the client hangs up before the end
    stream.drained = go_on          # called when a client that was slow has read what waited for it
    if not stream.write(piece): …   # it reads more slowly than we write: wait for `drained`, or `await stream.room()`
    stream.end()                    # or stream.cut(), which no client takes for a whole answer

HTTP/1.1 gets chunks, HTTP/1.0 a body that ends with its connection. A client that lets what waits for it lie for long is hung
up on, see `http.Connection.look`, and one for which much too much was written, by a maker that did not wait, as well.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

MOST_WAITING = 4 * 2**20  # bytes that are kept for a client whose maker does not wait


class Wire(Protocol):
    """The connection under a stream."""

    def piece(self, data: bytes) -> int:
        """Send a piece and return how many bytes wait to be sent."""

    def finish(self, last: bytes, *, whole: bool) -> None:
        """Send the last bytes; unless the answer is whole, hang up."""

    def abort(self) -> None:
        """Hang up at once."""


class Stream:
    """An answer that was begun. Used on the event loop only."""

    __slots__ = ("_chunked", "_full", "_waiters", "_wire", "drained", "gone", "sent")

    def __init__(self, wire: Wire | None, *, chunked: bool):
        self.gone: Callable[[], None] | None = None
        self.drained: Callable[[], None] | None = None
        self.sent = 0  # bytes of the pieces
        self._wire = wire  # None once it ended, or the client is gone
        self._chunked = chunked
        self._full = False
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def open(self) -> bool:
        """Whether somebody still listens."""
        return self._wire is not None

    @property
    def full(self) -> bool:
        """Whether the client reads more slowly than is written."""
        return self._full

    def write(self, data: bytes) -> bool:
        """Send a piece; False when the next one should wait, or when nobody listens any more."""
        if self._wire is None:
            return False
        if data:  # a chunk of no bytes would end the answer
            self.sent += len(data)
            waiting = self._wire.piece(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
            if waiting > MOST_WAITING:
                self._wire.abort()
        return self._wire is not None and not self._full

    async def room(self) -> bool:
        """Wait until the next piece may be written; False when nobody listens any more."""
        while self._full and self._wire is not None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return self._wire is not None

    def end(self) -> None:
        """Say that this was all."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.finish(b"0\r\n\r\n" if self._chunked else b"", whole=True)

    def cut(self) -> None:
        """Hang up without the end, after what was written: what made the answer failed in the middle."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.finish(b"", whole=False)

    # ------------------------------------------------------------------------- what its connection tells it

    def pause(self) -> None:
        """Take note that the client does not read."""
        self._full = True

    def resume(self) -> None:
        """Take note that it reads again."""
        self._full = False
        self._wake()
        if self.drained is not None and self._wire is not None:
            self.drained()

    def lost(self) -> None:
        """Take note that the client is gone."""
        if self._wire is not None:
            self._wire = None
            if self.gone is not None:
                self.gone()
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
