"""Requests that wait while the model is busy are computed together.

There is no timed window: as soon as the model is free it takes what is queued (drain), so a lone request never waits.
A model is computed in a thread of its own, so that the event loop stays free to read and write. One that needs less than
what handing it to a thread costs is computed on the loop, together with all that arrived in the same turn of it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from leptonai.core.errors import Busy, LeptonError, Unavailable

QUICK_SECONDS = 0.0005  # about ten times what a hand-over to a thread and back costs

_LATE = Unavailable("the deadline passed in the queue")

Compute = Callable[[Mapping[str, Any]], dict[str, Any]]


class Item:
    """One request: its arrays, and when it was queued, taken and done (seconds of `time.perf_counter`)."""

    __slots__ = ("batch", "deadline", "done", "first", "future", "inputs", "queued", "rows", "taken", "timer")

    def __init__(self, inputs: Mapping[str, Any], rows: int, deadline: float):
        self.inputs = inputs
        self.rows = rows
        self.deadline = deadline
        self.future: asyncio.Future[dict[str, Any]]
        self.timer: asyncio.TimerHandle
        self.queued = time.perf_counter()
        self.taken = self.done = 0.0
        self.batch = 0  # rows it was computed with
        self.first = False  # of its batch, so that a batch is counted once


class Batcher:
    """The queue of one model. Made and used on an event loop; `compute` runs in a thread of its own."""

    def __init__(
        self,
        name: str,
        compute: Compute,
        *,
        queue_limit: int = 1024,
        batch_rows: int = 256,
        seconds: float = 60.0,
        cost: float | None = None,
    ):
        """`cost`: seconds that a small batch takes; None for a model that may wait, which is never computed on the loop."""
        self.depth = 0  # requests that are queued or being computed
        self._name = name
        self._compute = compute
        self._queue_limit = queue_limit
        self._batch_rows = batch_rows
        self._seconds = seconds
        self._cost = cost
        self._arrived: list[Item] = []  # in this turn of the loop
        self._threaded = 0  # items that the thread has
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._work, name=f"model {name}", daemon=True)
        self._thread.start()

    def submit(self, inputs: Mapping[str, Any], rows: int) -> Item:
        """Queue a request; await ``item.future``. Raises `Busy` at once when too many wait already."""
        if self.depth >= self._queue_limit:
            raise Busy(
                f"{self._name} has {self.depth} requests waiting, which is its limit: try again", retry_after=1.0
            )
        item = Item(inputs, rows, time.perf_counter() + self._seconds)
        item.future = self._loop.create_future()
        item.timer = self._loop.call_later(self._seconds, self._late, item)
        self.depth += 1
        self._idle.clear()
        if not self._arrived:
            self._loop.call_soon(self._dispatch)
        self._arrived.append(item)
        return item

    def _dispatch(self) -> None:
        """Compute what arrived in this turn here, as long as that is quick; give the rest to the thread."""
        items, self._arrived = self._arrived, []
        while items and self._cost is not None and self._cost < QUICK_SECONDS and not self._threaded:
            count = rows = 0
            while count < len(items) and (count == 0 or rows + items[count].rows <= self._batch_rows):
                rows += items[count].rows
                count += 1
            if rows > self._batch_rows:
                break
            batch, items = items[:count], items[count:]
            self._finish(batch, self._timed(batch))
        self._threaded += len(items)
        for item in items:
            self._queue.put(item)

    def _timed(self, items: Sequence[Item]) -> list[dict[str, Any] | Exception]:
        start = time.perf_counter()
        for item in items:
            item.taken = start
        outcomes = self._outcomes(items)
        if self._cost is not None:
            self._cost += 0.2 * (time.perf_counter() - start - self._cost)
        return outcomes

    async def drain(self) -> None:
        """Return when every request that was accepted has its answer."""
        await self._idle.wait()

    async def close(self) -> None:
        """Answer what was accepted, then end the thread."""
        await self.drain()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    @property
    def alive(self) -> bool:
        """Whether there is a thread that computes."""
        return self._thread.is_alive()

    def _late(self, item: Item) -> None:
        if not item.future.done():
            where = "computing" if item.taken else "waiting in the queue"
            item.future.set_exception(
                Unavailable(
                    f"{self._name} did not answer within {self._seconds:g} s; the time went by {where}",
                    limit="deadline",
                )
            )

    # ------------------------------------------------------------------------------- in the model's thread

    def _work(self) -> None:
        held: Item | None = None
        while True:
            first = held or self._queue.get()
            if first is None:
                return
            items, held = self._take(first)
            now = time.perf_counter()
            late = [item for item in items if item.deadline <= now]
            if late:  # they were told already
                items = [item for item in items if item.deadline > now]
            outcomes = self._timed(items)
            try:
                self._loop.call_soon_threadsafe(self._took, items + late, outcomes + [_LATE] * len(late))
            except RuntimeError:  # the loop is closed, nobody waits any more
                return

    def _take(self, first: Item) -> tuple[list[Item], Item | None]:
        """Return what is queued, up to the size of a batch, and the one that did not fit."""
        items, rows = [first], first.rows
        while rows < self._batch_rows:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return items, None
            if item is None:
                self._queue.put(None)
                return items, None
            if rows + item.rows > self._batch_rows:
                return items, item
            items.append(item)
            rows += item.rows
        return items, None

    def _outcomes(self, items: Sequence[Item]) -> list[dict[str, Any] | Exception]:
        total = sum(item.rows for item in items)
        for item in items:
            item.batch = total
        for item in items[:1]:
            item.first = True
        if len(items) > 1:
            joined = self._joined(items, total)
            if joined is not None:
                return joined
        return [self._alone(item) for item in items]

    def _joined(self, items: Sequence[Item], total: int) -> list[dict[str, Any] | Exception] | None:
        """Return the parts of one computation, or None when the batch failed: then each is tried alone."""
        try:
            names = items[0].inputs
            outputs = self._compute({name: np.concatenate([item.inputs[name] for item in items]) for name in names})
            if any(len(found) != total for found in outputs.values()):
                return None
        except Exception:  # noqa: BLE001 - whatever one request did must not harm its neighbours
            return None
        parts: list[dict[str, Any] | Exception] = []
        start = 0
        for item in items:
            parts.append({name: found[start : start + item.rows] for name, found in outputs.items()})
            start += item.rows
        return parts

    def _alone(self, item: Item) -> dict[str, Any] | Exception:
        """Compute one request, a large one in slices, so that its rows bound no memory but its own."""
        size = self._batch_rows
        try:
            if item.rows <= size:
                return self._compute(item.inputs)
            parts = [
                self._compute({name: value[start : start + size] for name, value in item.inputs.items()})
                for start in range(0, item.rows, size)
            ]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        except LeptonError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything; the request gets an answer all the same
            return Unavailable(f"{self._name} could not compute: {type(error).__name__}")

    def _took(self, items: Sequence[Item], outcomes: Sequence[dict[str, Any] | Exception]) -> None:
        self._threaded -= len(items)
        self._finish(items, outcomes)

    def _finish(self, items: Sequence[Item], outcomes: Sequence[dict[str, Any] | Exception]) -> None:
        now = time.perf_counter()
        for item, outcome in zip(items, outcomes, strict=True):
            item.done = now
            item.timer.cancel()
            if item.future.done():  # its deadline passed, or its caller is gone
                continue
            if isinstance(outcome, Exception):
                item.future.set_exception(outcome)
            else:
                item.future.set_result(outcome)
        self.depth -= len(items)
        if self.depth == 0:
            self._idle.set()
