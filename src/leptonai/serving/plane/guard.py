"""What a public HTTP parser leaves open: how long a request may take to arrive, and how large its headers may be.

uvicorn keeps a connection that sends nothing, or a byte now and then, for as long as it likes. Here the headers must be
complete after some seconds and the body must come at a least rate. One sweep looks at all connections, so a request pays
for two assignments.
"""

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
BODY_SECONDS = 30.0
BODY_RATE = 1024  # bytes a second that a slow body must keep after its first seconds
HEADER_LIMIT = 64 * 2**10
SWEEP_SECONDS = 1.0


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with deadlines and a limit on headers."""

    def connection_made(self, transport: Any) -> None:
        """Expect the first request within the time for headers."""
        super().connection_made(transport)
        self._header_bytes = 0
        self._body_bytes = 0
        self._reading = False  # a body
        self._since: float | None = self.loop.time()

    def on_message_begin(self) -> None:
        """Start the clock of the headers."""
        super().on_message_begin()
        self._header_bytes = 0
        if self._since is None:
            self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Count the request line as headers."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Start the clock of the body. A request whose headers were too large was answered already."""
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        self._reading, self._body_bytes, self._since = True, 0, self.loop.time()

    def on_body(self, body: bytes) -> None:
        """Count the body."""
        if not self.transport.is_closing():
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock: from here on the answer is awaited, not the request."""
        self._reading, self._since = False, None
        if not self.transport.is_closing():
            super().on_message_complete()

    def late(self, now: float) -> bool:
        """Whether the request that arrives takes longer than it may."""
        if self._since is None:
            return False
        if not self._reading:
            return now - self._since > HEADER_SECONDS
        return now - self._since > BODY_SECONDS + self._body_bytes / BODY_RATE

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_LIMIT and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()


def sweep(connections: set[Any], now: float) -> None:
    """Close the connections whose request is late."""
    for connection in tuple(connections):
        guarded = cast(GuardedProtocol, connection)
        if guarded.late(now):
            guarded.transport.abort()
