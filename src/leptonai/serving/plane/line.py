"""A connection of a plane to one worker, on the event loop: messages out, messages in, and connected again when it breaks.

What a worker sends is believed only as far as it was checked: it runs its user's code. The body of a large message is read
straight into the memory in which it stays.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leptonai.core.errors import Corrupt
from leptonai.serving import frames
from leptonai.serving.sockets import connect

MOST_BYTES = 512 * 2**20  # of one message of a worker
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.25  # before it is tried again to connect
_READ = 64 * 2**10

_log = logging.getLogger(__name__)


class Line(asyncio.BufferedProtocol):
    """A line that is kept up until it is closed. `heard` gets each message; `changed(up)` is told of each change."""

    def __init__(self, path: Path, heard: Callable[[frames.Frame], None], changed: Callable[[bool], None]):
        self.up = False
        self._path = path
        self._heard = heard
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE
        self._closed = False
        self._clear()

    def _clear(self) -> None:
        self._small = bytearray(_READ)
        self._have = 0
        self._header: dict[str, Any] | None = None
        self._sizes: list[int] = []
        self._body: bytearray | None = None  # of a large message
        self._filled = 0

    def open(self) -> None:
        """Connect, now or as soon as there is a worker."""
        self._timer = None
        if self._closed or self.up or self._task is not None:
            return
        try:
            made = connect(self._path, blocking=False)
        except OSError:
            self._later()
            return
        self._task = self._loop.create_task(self._begin(made))

    async def _begin(self, made: Any) -> None:
        try:
            await self._loop.create_unix_connection(lambda: self, sock=made)
        except OSError:
            made.close()
            self._later()
        finally:
            self._task = None

    def _later(self) -> None:
        if not self._closed:
            self._timer = self._loop.call_later(self._pause, self.open)
            self._pause = min(self._pause * 1.5, LONGEST_PAUSE)

    def send(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Send a message; one that is on its way when the line breaks is lost, see `changed`."""
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)

    def close(self) -> None:
        """Hang up for good."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def hang_up(self) -> None:
        """Hang up on a worker that talks nonsense; another try follows."""
        self._transport.abort()

    # ------------------------------------------------------------------------------------------- transport

    def connection_made(self, transport: Any) -> None:
        """Take the line."""
        self._transport = transport
        self._pause = FIRST_PAUSE
        self._clear()
        if self._closed:
            transport.abort()
            return
        self.up = True
        self._changed(True)

    def connection_lost(self, _error: Exception | None) -> None:
        """Try again, unless it was closed."""
        self._transport = None
        if self.up:
            self.up = False
            self._changed(False)
        if not self._closed:
            self._later()

    def get_buffer(self, sizehint: int) -> Any:  # noqa: ARG002 - the memory is ours
        """Say where to read to."""
        if self._body is not None:
            return memoryview(self._body)[self._filled :]
        return memoryview(self._small)[self._have :]

    def buffer_updated(self, count: int) -> None:
        """Take what was read."""
        try:
            if self._body is not None:
                self._filled += count
                if self._filled == len(self._body):
                    body, self._body = self._body, None
                    self._whole(memoryview(body))
                return
            self._have += count
            self._take()
        except Corrupt as error:
            _log.warning("%s: %s", self._path.parent.name, error.message)
            self.hang_up()

    def _take(self) -> None:
        """Take all messages that are there."""
        at, view = 0, memoryview(self._small)
        while True:
            if self._header is None:
                if self._have - at < 4:
                    break
                length = int.from_bytes(view[at : at + 4])
                if length > MOST_BYTES:
                    raise Corrupt(f"a worker announces a header of {length} bytes")
                if self._have - at < 4 + length:
                    if 4 + length > len(self._small):  # much text
                        grown = bytearray(4 + length)
                        grown[: self._have - at] = view[at : self._have]
                        self._small, self._have, at = grown, self._have - at, 0
                        return
                    break
                self._header, self._sizes = frames.parse(bytes(view[at + 4 : at + 4 + length]))
                at += 4 + length
                if sum(self._sizes) > MOST_BYTES:
                    raise Corrupt(f"a worker announces a message of {sum(self._sizes)} bytes")
            size = sum(self._sizes)
            there = self._have - at
            if there < size:
                if size <= _READ // 2:
                    break
                self._body = bytearray(size)
                self._body[:there] = view[at : self._have]
                self._filled, self._have = there, 0
                return
            body = bytearray(view[at : at + size])
            at += size
            self._whole(memoryview(body))
            if not self.up:
                return
        rest = bytes(view[at : self._have])
        if len(self._small) > _READ and len(rest) <= _READ // 2:
            self._small = bytearray(max(_READ, len(rest)))
        elif len(rest) == len(self._small):
            self._small = bytearray(2 * len(rest))
        self._small[: len(rest)] = rest
        self._have = len(rest)

    def _whole(self, body: memoryview) -> None:
        header, sizes = self._header or {}, self._sizes
        self._header, self._sizes = None, []
        parts, at = [], 0
        for size in sizes:
            parts.append(body[at : at + size])
            at += size
        self._heard(frames.Frame(header, parts))  # type: ignore[arg-type]  # views, which are bytes for our purposes
