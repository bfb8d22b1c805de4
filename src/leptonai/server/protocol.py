"""HTTP/1.1 with a clock: whoever opens a connection and does not say what he wants within seconds loses it.

uvicorn keeps a connection that sent half of its headers for ever; the body's clock is in `strict.py`.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0


class PatientProtocol(H11Protocol):
    """uvicorn's h11 protocol, patient for `HEAD_SECONDS` with each request's line and headers."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self._wind()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the headers are complete; wind it up when another request begins."""
        super().data_received(data)
        waits = self.conn.their_state is h11.IDLE
        if not waits:
            self._stop()
        elif self._clock is None and not self.transport.is_closing():
            self._wind()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def _wind(self) -> None:
        self._clock = self.loop.call_later(HEAD_SECONDS, self._late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            self.transport.close()
