"""A model of text as a plane has it: a line to its process, on which requests go side by side and answers come in pieces.

When the process dies another one takes its place on the same path; what was asked and of which nothing was heard yet is asked
again there, twice at most, so that a caller sees a wait instead of an error.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from leptonai.core.errors import Busy, Corrupt, LeptonError, Unavailable, Unsupported, from_dict
from leptonai.serving import frames
from leptonai.serving.plane.batcher import Cost
from leptonai.serving.plane.replica import Replica
from leptonai.serving.served import Served
from leptonai.serving.sockets import connect

WAIT_SECONDS = 20.0  # for a process to take the place of one that died
TRIES = 3
PATIENCE = 5.0  # seconds past its deadline after which a request that the process forgot is given up
MOST = 1024  # requests at once from one plane; the process has its own, smaller bound


_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Who gets the pieces of an answer."""

    def piece(self, said: Mapping[str, Any], data: bytes) -> None:
        """Take a piece."""

    def done(self) -> None:
        """Take note that this was all."""

    def failed(self, error: Exception) -> None:
        """Take note that there will be no more."""


class Asking:
    """One request on the line."""

    __slots__ = ("asked", "begun", "id", "seconds", "sink", "timer", "tries")

    def __init__(self, id: int, asked: Mapping[str, Any], sink: Sink, seconds: float):
        self.id = id
        self.asked = asked
        self.sink = sink
        self.seconds = seconds
        self.begun = False  # whether a piece came
        self.tries = 0
        self.timer: asyncio.TimerHandle | None = None


class TextLine:
    """The line to one process. Used on the event loop only. For the router it is a `LoadedModel` that computes no arrays."""

    waits = True

    def __init__(self, path: Path):
        self.alive = True
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, Asking] = {}
        self._ids = itertools.count(1)
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Requests that are not answered yet."""
        return len(self._open)

    async def start(self) -> None:
        """Return when the process was reached. Raises `Unavailable`."""
        self._task = asyncio.create_task(self._keep())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connected.wait(), WAIT_SECONDS)
        if not self._connected.is_set():
            self.close()
            raise Unavailable("the process of the model does not answer", retry_after=5.0)

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:  # noqa: ARG002
        """Refuse: text is asked by `ask`."""
        raise Unsupported("this service is a model of text: it is called at /v1/chat/completions or /v1/embeddings")

    def ask(self, asked: Mapping[str, Any], sink: Sink, seconds: float) -> Asking:
        """Send a request; the sink hears of it until it is done, failed, or cancelled. Raises `Busy`."""
        if len(self._open) >= MOST:
            raise Busy(f"{MOST} requests are being answered: try again", retry_after=2.0)
        asking = Asking(next(self._ids), asked, sink, seconds)
        asking.timer = self._loop.call_later(seconds + PATIENCE, self._forgotten, asking)
        self._open[asking.id] = asking
        self._send(asking)
        return asking

    def cancel(self, asking: Asking) -> None:
        """Take a request back: nothing more is computed for it from the next token on."""
        if self._end(asking) and self._writer is not None:
            self._writer.write(frames.pack({"op": "cancel", "id": asking.id}))

    def close(self) -> None:
        """Hang up; may be called from any thread."""
        self._closed = True
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    def _send(self, asking: Asking) -> None:
        if self._writer is not None:
            asking.tries += 1
            header = {"op": "ask", "id": asking.id, "asked": asking.asked, "seconds": asking.seconds}
            self._writer.write(frames.pack(header))

    def _end(self, asking: Asking) -> bool:
        if asking.timer is not None:
            asking.timer.cancel()
        return self._open.pop(asking.id, None) is not None

    def _fail(self, asking: Asking, error: Exception) -> None:
        if self._end(asking):
            asking.sink.failed(error)

    def _forgotten(self, asking: Asking) -> None:
        self.cancel(asking)
        asking.sink.failed(Unavailable(f"the request took longer than its {asking.seconds:g} s", limit="deadline"))

    # ---------------------------------------------------------------------------------------------- the line

    async def _keep(self) -> None:
        """Stay connected; give up what waits when nobody takes the place of a process that died."""
        lost = time.monotonic()
        while not self._closed:
            try:
                reader, writer = await asyncio.open_unix_connection(sock=connect(self._path))
            except OSError:
                self.alive = False
                if time.monotonic() - lost > WAIT_SECONDS:
                    self._drop(lambda _: True, "the process of the model does not answer; it is being started again")
                await asyncio.sleep(0.05)
                continue
            self.alive, self._writer = True, writer
            self._connected.set()
            for asking in tuple(self._open.values()):
                self._send(asking)
            try:
                await self._read(reader)
            finally:
                self._writer = None
                writer.close()
            lost = time.monotonic()
            self._drop(lambda asking: asking.begun, "the process of the model died while it answered")
            self._drop(
                lambda asking: asking.tries >= TRIES, f"the process of the model died {TRIES} times of this request"
            )

    def _drop(self, which: Any, message: str) -> None:
        for asking in [asking for asking in self._open.values() if which(asking)]:
            self._fail(asking, Unavailable(message, retry_after=2.0))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, Corrupt):
            while (frame := await frames.receive_async(reader)) is not None:
                asking = self._open.get(frame.header["id"])
                if asking is not None:
                    self._take(asking, frame)

    def _take(self, asking: Asking, frame: frames.Frame) -> None:
        try:
            if frame.header["op"] == "piece":
                asking.begun = True
                asking.sink.piece(frame.header["said"], frame.parts[0] if frame.parts else b"")
            elif frame.header["op"] == "done":
                self._end(asking)
                asking.sink.done()
            else:
                self._fail(asking, from_dict(frame.header["error"]))
        except Exception as error:  # noqa: BLE001 - one answer that cannot be made is no reason to lose the others
            _log.exception("an answer of a model of text cannot be made")
            self._fail(asking, LeptonError(f"the answer cannot be made: {type(error).__name__}"))


class TextReplica(Replica):
    """A model of text that answers."""

    def __init__(self, model: Served, line: TextLine, seconds: float):
        super().__init__(model, line, seconds, Cost(1, 0.0))
        self.text = line

    @classmethod
    async def reach(cls, model: Served, path: Path) -> "TextReplica":
        """Connect to the process of a model. Raises `Unavailable`."""
        start = time.perf_counter()
        line = TextLine(path)
        await line.start()
        return cls(model, line, time.perf_counter() - start)

    @property
    def depth(self) -> int:
        """Requests that are not answered yet."""
        return self.text.depth
