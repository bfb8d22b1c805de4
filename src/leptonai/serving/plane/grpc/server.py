"""The connections of one listening socket that speaks gRPC."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from leptonai.serving.plane.grpc.connection import Connection
from leptonai.serving.plane.grpc.limits import Limits
from leptonai.serving.plane.grpc.streams import Stream, Taker
from leptonai.serving.plane.http import SWEEP_SECONDS

CONNECTIONS = 1024


class Server:
    """Accepts connections; `open` makes the call that a new stream carries."""

    def __init__(
        self, open: Callable[[Stream], Taker], *, connections: int = CONNECTIONS, limits: Limits | None = None
    ):
        self.open = open
        self.limits = limits or Limits()
        self.limit = connections
        self.connections: set[Connection] = set()
        self.loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._swept: asyncio.Task[None] | None = None

    async def start(self, listen: Any) -> None:
        """Accept connections on a socket that listens already."""
        self._listener = await self.loop.create_server(lambda: Connection(self), sock=listen, backlog=2048)
        self._swept = asyncio.create_task(self._sweeping())

    async def stop(self, grace: float) -> None:
        """Accept no more, finish what was accepted, and close what is left after the grace (seconds)."""
        if self._listener is not None:
            self._listener.close()
        until = time.monotonic() + grace
        for connection in tuple(self.connections):
            connection.drain()
        while self.connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        if self._swept is not None:
            self._swept.cancel()
        for connection in tuple(self.connections):
            connection.abort()

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.loop.time()
            for connection in tuple(self.connections):
                connection.look(now)
