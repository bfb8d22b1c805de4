"""The connections of one process of the plane, and what they share."""

import asyncio
import itertools
import secrets
import time
from typing import Any, Protocol

from leptonai.serving.plane.call import Call, Form
from leptonai.serving.plane.http import BODY_LIMIT, CONNECTIONS, SWEEP_SECONDS, Connection


class Handler(Protocol):
    """What answers: calls `call.answer`, or `call.begin`, once, now or later."""

    def handle(self, call: Call) -> None:
        """Take one request."""


class Server:
    """The connections of one listening socket."""

    def __init__(self, handler: Handler, *, body_limit: int = BODY_LIMIT, connections: int = CONNECTIONS):
        self.handler = handler
        self.body_limit = body_limit
        self.limit = connections
        self.connections: set[Connection] = set()
        self.stopping = False
        self.leaving = False  # what its clients send from now on, another one answers
        self.left = False  # another one answers everything
        self.forms: dict[bytes, Form] = {}  # by the bytes of the head, with the empty line that ends it
        self.loop = asyncio.get_running_loop()
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)
        self._listener: asyncio.Server | None = None
        self._swept: asyncio.Task[None] | None = None

    async def start(self, listen: Any) -> None:
        """Accept connections on a socket that listens already; None: they come another way, see `serving.plane.reception`."""
        if listen is not None:
            self._listener = await self.loop.create_server(self._made, sock=listen, backlog=2048)
        self._swept = asyncio.create_task(self._sweeping())

    def _made(self) -> Any:
        return Connection(self)

    async def stop(self, grace: float) -> None:
        """Accept no more, finish what was accepted, and close what is left after the grace (seconds)."""
        self.stopping = True
        if self._swept is not None:
            self._swept.cancel()
        if self._listener is not None:
            self._listener.close()
        until = time.monotonic() + grace
        for connection in tuple(self.connections):
            connection.close_if_idle()
        while self.connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for connection in tuple(self.connections):
            connection.abort()

    async def leave(self, grace: float) -> None:
        """Answer what has arrived, and leave the connections as they are to who keeps them; what is not answered after the
        grace (seconds) is left to them too.
        """
        self.leaving = True
        if self._swept is not None:
            self._swept.cancel()
        for connection in self.connections:
            connection.rest()
        until = time.monotonic() + grace
        while any(connection.owes for connection in self.connections) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        self.left = True
        for connection in tuple(self.connections):
            connection.abandon()

    def new_id(self) -> bytes:
        """Return an id for a request that came without one."""
        return f"{self._prefix}-{next(self._count):x}".encode()

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.loop.time()
            for connection in tuple(self.connections):
                connection.look(now)
