"""Waiting: long polls and server-sent events. Woken at once by this server's own changes, and by the clock for others'.

Where no other server has the catalog the clock is looked at seldom: waiting costs nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from anyio.to_thread import run_sync

from leptonai.core.errors import Busy
from leptonai.core.nouns import Event, Run
from leptonai.core.ports import Catalog
from leptonai.server.wire import text

T = TypeVar("T")
POLL_SECONDS = 0.5  # how soon a change by another server on the same database is seen
ALONE_SECONDS = 5.0  # the same where there is no other one
_BEAT_SECONDS = 10.0  # a comment on a silent stream, so that both ends know that the other is there


class Wakes:
    """Who waits for what. `notify` may be called from any thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.alone = False  # whether this server alone writes to its catalog
        self.closed = False

    def bind(self) -> None:
        """Remember the running loop."""
        self._loop = asyncio.get_running_loop()

    def notify(self, *topics: str) -> None:
        """Wake whoever waits for one of the topics."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set, topics)

    def close(self) -> None:
        """Let nobody wait any longer: the server stops. From any thread."""
        self.closed = True
        self.notify(*tuple(self._waiting))

    def _set(self, topics: tuple[str, ...]) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    async def until(
        self, topic: str, look: Callable[[], Awaitable[T | None]], seconds: float, poll: float = POLL_SECONDS
    ) -> T | None:
        """Call `look` now, at each wake-up of `topic` and every `poll` seconds, until it finds something or time is up; more
        seldom where this server is alone.

        Raises `Busy` when the server stops.
        """
        event = asyncio.Event()
        self._waiting[topic].add(event)
        pause = max(poll, ALONE_SECONDS) if self.alone else poll
        try:
            deadline = asyncio.get_running_loop().time() + seconds
            while True:
                if self.closed:
                    raise Busy("the server is stopping: try again", retry_after=1.0)
                event.clear()
                found = await look()
                left = deadline - asyncio.get_running_loop().time()
                if found is not None or left <= 0:
                    return found
                try:
                    await asyncio.wait_for(event.wait(), min(pause, left))
                except TimeoutError:
                    continue
        finally:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]


async def run_events(
    catalog: Catalog, wakes: Wakes, id: str, after: int, streams: tuple[str, ...]
) -> AsyncIterator[str]:
    """Yield the events of a Run as server-sent events, and its record as the last, once it has ended."""
    seq = after

    def news() -> tuple[list[Event], Run] | None:
        # The record is read first: events that were there when the Run ended are then all seen.
        run = catalog.get(Run, id)
        events = catalog.series(id, after=seq, streams=streams)
        return (events, run) if events or run.state.ended else None

    async def look() -> tuple[list[Event], Run] | None:
        return await run_sync(news)

    yield ": here\n\n"
    while True:
        try:
            found = await wakes.until(f"run:{id}", look, _BEAT_SECONDS)
        except Busy:  # the server stops; without an `end` the client asks again, whoever answers then
            return
        if found is None:
            yield ": still here\n\n"
            continue
        events, run = found
        for event in events:
            seq = event.seq
            yield _sse(event.stream, event.model_dump_json(), seq)
        if run.state.ended and len(events) < 1000:
            yield _sse("end", text(run).decode(), seq)
            return


def _sse(kind: str, data: str, seq: int) -> str:
    return f"id: {seq}\nevent: {kind}\ndata: {data}\n\n"
