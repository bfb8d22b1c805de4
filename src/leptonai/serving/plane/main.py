"""The serving plane: a process of its own that hosts the Services of a Site. Its agent starts it, and it ends with it."""

import argparse
import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import uvloop

from leptonai.core import settings
from leptonai.serving import frames
from leptonai.serving.escrow import Escrow
from leptonai.serving.plane import access, problems, traces
from leptonai.serving.plane.board import Board
from leptonai.serving.plane.control import Control
from leptonai.serving.plane.cors import origins
from leptonai.serving.plane.facts import facts
from leptonai.serving.plane.front import Front
from leptonai.serving.plane.http import CONNECTIONS
from leptonai.serving.plane.reception import Reception, Refusals
from leptonai.serving.plane.router import Router
from leptonai.serving.plane.server import Server

GRACE_SECONDS = 5
GARBAGE = (50_000, 20, 50)  # thresholds of Python's search for cycles
POST_SECONDS = 0.5


class Door(Protocol):
    """A way in: it accepts connections on a socket until it is to stop."""

    async def start(self, listen: socket.socket) -> None:
        """Accept connections."""

    async def stop(self, grace: float) -> None:
        """Finish what was accepted, within so many seconds."""


def main(arguments: list[str] | None = None) -> None:
    """Serve on a socket that the agent listens on, told by the agent over another; both come as file descriptors."""
    parser = argparse.ArgumentParser(prog="python -m leptonai.serving.plane", description=__doc__)
    parser.add_argument("--listen", type=int, required=True, help="file descriptor of a listening TCP socket")
    parser.add_argument("--control", type=int, required=True, help="file descriptor of a socket pair to the agent")
    parser.add_argument("--aside", type=int, required=True, help="of another one, for what must not wait for a load")
    parser.add_argument("--wants", type=int, help="of one over which it asks for models that are not in memory")
    parser.add_argument("--grpc", type=int, help="file descriptor of a listening TCP socket for gRPC")
    parser.add_argument("--slot", type=int, default=0, help="which board is its own")
    parser.add_argument("--board", type=int, action="append", default=[], help="file descriptor of a board of counts")
    parser.add_argument("--logs", type=Path, help="folder of the access log")
    parser.add_argument("--door", type=int, help="of a socket over which connections come; else they are accepted here")
    parser.add_argument("--escrow", type=int, help="of the memory where requests are kept until they are answered")
    parser.add_argument("--slots", type=int, help="how many connections there may be")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second of one address; 0: any number")
    parser.add_argument("--burst", type=float, default=1.0, help="requests of one address at once")
    given = parser.parse_args(arguments)
    listen, control, aside = (socket.socket(fileno=number) for number in (given.listen, given.control, given.aside))
    log = None if given.logs is None else given.logs / f"access-{given.slot}.jsonl"
    # What is imported stays for good: no search for garbage needs to look at it. A request leaves no cycles, so that search
    # can be rare; with Python's own thresholds it takes a tenth of a request's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    kept = None
    if given.door is not None:
        kept = Kept(
            socket.socket(fileno=given.door), Escrow(given.escrow, given.slots), given.slots, given.rate, given.burst
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        grpc = None if given.grpc is None else socket.socket(fileno=given.grpc)
        wants = None if given.wants is None else socket.socket(fileno=given.wants)
        runner.run(serve(listen, control, aside, Board(given.board, given.slot), grpc, log, kept, wants))
    os._exit(0)  # a native model may hold threads that never end


class Kept(NamedTuple):
    """What a process needs whose connections the agent keeps; see `serving.plane.reception`."""

    line: socket.socket
    escrow: Escrow
    slots: int
    rate: float
    burst: float


async def serve(
    listen: socket.socket,
    control: socket.socket,
    aside: socket.socket,
    board: Board,
    grpc: socket.socket | None = None,
    log: Path | None = None,
    kept: Kept | None = None,
    wants: socket.socket | None = None,
) -> None:
    """Serve until the agent goes away or asks to end; then finish what was accepted. `log`: the file of the access log."""
    router = Router(board)
    if kept is not None:
        router.marks = kept.escrow.marks(board.slot)
    lines = None if log is None or not any(access.setting()) else access.AccessLog(log, router.keys, access.setting())
    spans = traces.open_traces()
    router.watch.also(lines, spans)
    local = listen.getsockname()[0] in ("127.0.0.1", "::1")
    server = Server(
        Front(router, local=local, origins=origins(settings.get("origins"))),
        connections=CONNECTIONS if kept is None else kept.slots,
    )
    router.metrics.process = lambda: facts(board.slot, server, router)
    reader, writer = await asyncio.open_connection(sock=control)
    told = asyncio.create_task(Control(router, reader, writer).run())
    reader, other = await asyncio.open_connection(sock=aside)
    also = asyncio.create_task(Control(router, reader, other).run())
    asking = None if wants is None else (await asyncio.open_connection(sock=wants))[1]

    def ask(said: dict[str, Any]) -> None:
        if asking is not None and not asking.is_closing():
            asking.write(frames.pack({**said, "used": router.used()}))

    router.waiting.ask = ask
    posting = asyncio.create_task(_posting(router, ask))
    try:
        # Callers wait in the socket's backlog until it is known what answers here: after a restart nobody gets a "not found".
        known = asyncio.create_task(router.told.wait())
        await asyncio.wait([told, known], return_when=asyncio.FIRST_COMPLETED)
        known.cancel()
        doors: list[Door] = [server if kept is None else _reception(server, kept)]
        await doors[0].start(listen)
        if grpc is not None:
            doors.append(_grpc_server(router, kept))
            await doors[1].start(grpc)
        await asyncio.wait([told])
        await asyncio.gather(*(door.stop(GRACE_SECONDS) for door in doors))
    finally:
        told.cancel()
        also.cancel()
        posting.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(router.close(), GRACE_SECONDS)
        for watcher in (lines, spans):
            if watcher is not None:
                watcher.close()
        for line in (writer, other, asking):
            if line is not None:
                line.close()


def _reception(server: Server, kept: Kept) -> Door:
    refusals = Refusals(problems.deadly, problems.too_many)
    return Reception(server, kept.line, kept.escrow, refusals, kept.rate, kept.burst)


def _grpc_server(router: Router, kept: Kept | None) -> Door:
    """Return what answers gRPC. It is imported only here: who does not use it pays nothing for it."""
    from leptonai.serving.plane.grpc.limits import Limits
    from leptonai.serving.plane.grpc.server import Server as GrpcServer
    from leptonai.serving.plane.grpc.service import Service

    most = int(settings.number("address_connections"))
    limits = Limits(most) if kept is None else Limits(most, kept.rate, kept.burst)
    return GrpcServer(Service(router, limits).open, limits=limits)


async def _posting(router: Router, ask: Callable[[dict[str, Any]], None]) -> None:
    """Keep what the others see of this process's counts fresh."""
    while True:
        await asyncio.sleep(POST_SECONDS)
        router.metrics.post()
        ask({"op": "used"})
