"""Requests that wait while the model is busy are computed together.

There is no timed window: as soon as the model is free it takes what is queued (drain), so a lone request never waits.
What a batch of n rows costs is learnt while it serves, as ``fixed + each * n`` seconds. A model whose batches are quick is
computed on the event loop, together with all that arrived in the same turn of it, in batches that hold the loop up for a
few milliseconds at most; one that is slow is computed in a thread of its own. A request whose deadline cannot be met, by what
was learnt, is turned away at once.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from leptonai.core.errors import Busy, LeptonError, Unavailable
from leptonai.serving.plane.outputs import Batch, Part

HOLD_SECONDS = 0.004  # what a batch may take on the event loop, where it holds up reading and writing
_LEAST_SECONDS = 0.001  # a request that has less is never computed on trial
WAIT_SECONDS = 2.0  # that a request without a deadline of its own may take with what waits before it …
WAIT_TIMES = 4  # … or so many times what it takes alone, whichever is more
BATCH_SECONDS = 0.5  # that a batch may take, so that what waits is seen to and what it costs is learnt in time
OVERDUE = 4.0  # times: so much slower than thought a batch is taken to be, at most, before it ends
TRY_SECONDS = 1.0  # between two requests that are let in although what was learnt says that they will be late
_MEMORY = 0.9  # the share of what was learnt that stays when a batch more is seen
_FAR = 16  # times the rows of the batches of late (root of their mean square): what was learnt of them is good so far
_SWEEPS = 20  # how often deadlines are looked at, within the time that a request has by default

Compute = Callable[[Mapping[str, Any]], dict[str, Any]]
Outcome = Part | Exception


class Cost:
    """What a batch costs: a line through (rows, seconds), fitted by least squares that forget. Used by one thread.

    While all batches are of about one size nothing is seen of the slope: then the line keeps its shape, and is moved to where they are.
    """

    def __init__(self, rows: int, seconds: float, one: float | None = None):
        """Begin with one measured batch; `one`: what a single row took. Without it, as if half of the batch were fixed."""
        self.fixed, self.each = seconds / 2, seconds / 2 / max(1, rows)
        if one is not None and rows > 1:
            self.each = max(0.0, seconds - one) / (rows - 1)
            self.fixed = max(0.0, seconds - self.each * rows)
        # Weighted sums of 1, n, t, n², n·t. The two first points say the same as the guess above.
        points = ((rows, seconds), (4 * rows, self.of(4 * rows)))
        self._sums = [sum(values) for values in zip(*((1.0, n, t, n * n, n * t) for n, t in points), strict=True)]

    def of(self, rows: float) -> float:
        """Return the seconds that a batch of so many rows takes."""
        return self.fixed + self.each * rows

    def at_least(self, rows: int) -> float:
        """Return the seconds that so many rows take by what was seen: rows far beyond all batches of late cost nothing here.

        A line through batches of a few rows says little of a hundred thousand: what it said would turn callers away.
        """
        w, _, _, squares, _ = self._sums
        return self.of(min(rows, round(_FAR * math.sqrt(squares / w))))

    def together(self, rows: int, size: int) -> float:
        """Return the seconds that many requests take which have so many rows together, in batches of `size` at most."""
        return self.each * rows + self.fixed * math.ceil(rows / size)

    def rows_within(self, seconds: float) -> int:
        """Return how many rows can be computed in that time; at least one."""
        return max(1, int((seconds - self.fixed) / self.each)) if self.each > 0 else 1 << 30

    def learn(self, rows: int, seconds: float) -> None:
        """Take a batch into account. One that took very much longer than thought, as on a machine that paused, counts less."""
        seconds = min(seconds, 16 * self.of(rows) + 1e-5)
        new = (1.0, rows, seconds, rows * rows, rows * seconds)
        w, n, t, nn, nt = self._sums = [_MEMORY * old + one for old, one in zip(self._sums, new, strict=True)]
        spread = w * nn - n * n
        mean = t / w
        if spread > 0.01 * w * nn:
            self.each = max(0.0, (w * nt - n * t) / spread)
            self.fixed = max(0.0, mean - self.each * n / w)
        else:
            thought = self.of(n / w)
            scale = mean / thought if thought > 0 else 1.0
            self.each, self.fixed = self.each * scale, self.fixed * scale


class Item:
    """One request, or several that go together: its arrays, and when it was queued, taken and done (seconds of `time.perf_counter`)."""

    __slots__ = (
        "batch", "deadline", "done", "first", "inputs", "outcome", "queued", "requests", "rows", "taken", "then",
    )  # fmt: skip

    def __init__(
        self, inputs: Mapping[str, Any], rows: int, deadline: float, then: "Callable[[Item], None]", requests: int = 1
    ):
        self.inputs = inputs
        self.rows = rows
        self.requests = requests
        self.queued = time.perf_counter()
        self.deadline = self.queued + deadline
        self.then = then  # called once, on the event loop, when there is an outcome
        self.outcome: Outcome | None = None
        self.taken = self.done = 0.0
        self.batch = 0  # rows it was computed with
        self.first = False  # of its batch, so that a batch is counted once

    def end(self, outcome: Outcome) -> None:
        """Say what came of it; what is said later does not count."""
        if self.outcome is None:
            self.outcome = outcome
            self.then(self)


class Batcher:
    """The queue of one model. Made and used on an event loop; `compute` runs there or in a thread of its own."""

    def __init__(
        self,
        name: str,
        compute: Compute,
        *,
        queue_limit: int = 1024,
        batch_rows: int = 256,
        seconds: float = 60.0,
        cost: Cost | None = None,
    ):
        """`cost`: what batches were seen to take; None for a model that may wait, which is never computed on the loop."""
        self.depth = 0  # requests that are queued or being computed
        self._name = name
        self._compute = compute
        self._queue_limit = queue_limit
        self._batch_rows = batch_rows
        self._seconds = seconds
        self._cost = cost
        self._arrived: list[Item] = []  # in this turn of the loop
        self._threaded = 0  # items that the thread has
        self._rows = 0  # of all that is at hand
        self._waiting = 0  # the same, where a large request counts as one batch
        self._running = (0.0, 0)  # when the batch that the thread computes began, and its rows
        self._tried = -TRY_SECONDS
        self._pending: set[Item] = set()
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._worker = threading.Thread(target=self._work, name=f"model {name}", daemon=True)
        self._worker.start()

    def submit(
        self,
        inputs: Mapping[str, Any],
        rows: int,
        then: Callable[[Item], None],
        seconds: float | None = None,
        requests: int = 1,
    ) -> Item:
        """Queue a request; `then` is called with it, on the event loop, when there is an outcome.

        `seconds`: how long it may take; `requests`: how many it stands for. Raises `Busy` at once when too many wait already, or
        when it would be too late.
        """
        if self.depth >= self._queue_limit:
            raise Busy(
                f"{self._name} has {self.depth} requests waiting, which is its limit: try again", retry_after=1.0
            )
        allowed = self._seconds if seconds is None else min(seconds, self._seconds)
        if self._cost is not None:
            # Where all that is at hand is one batch, and done in time if it is overdue, there is no need to look more closely.
            hand = self._rows + rows
            if hand > self._batch_rows or OVERDUE * self._cost.of(hand) > min(allowed, WAIT_SECONDS):
                self._admit(self._cost, rows, allowed, seconds)
        item = Item(inputs, rows, allowed, then, requests)
        self._pending.add(item)
        if not self.depth:
            self._idle.clear()
        self.depth += requests
        self._rows += rows
        self._waiting += min(rows, self._batch_rows)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._seconds / _SWEEPS, self._look_for_late)
        if not self._arrived:
            self._loop.call_soon(self.dispatch)
        self._arrived.append(item)
        return item

    def _admit(self, cost: Cost, rows: int, allowed: float, seconds: float | None) -> None:
        """Raise `Busy` for a request that would be too late, see `submit`."""
        ahead = cost.at_least(self._rows + rows)
        most = allowed
        if seconds is None:  # who set no deadline does not want to wait for ever either
            waiting = self._waiting + min(rows, self._batch_rows)
            ahead = max(ahead, cost.together(waiting, self._batch_rows) * self._overdue())
            if ahead > WAIT_SECONDS:
                most = min(allowed, max(WAIT_SECONDS, WAIT_TIMES * cost.of(rows)))
        if ahead > most and (allowed < _LEAST_SECONDS or not self._tries()):
            raise Busy(
                f"{self._name} needs about {ahead:.3g} s for what waits before this request, which has {most:g} s: "
                "try again",
                retry_after=max(1.0, ahead - most),
            )

    def _overdue(self) -> float:
        """Return how many times longer than thought the batch takes that is being computed: what waits will take longer too."""
        begun, rows = self._running
        if not begun or self._cost is None:
            return 1.0
        return min(OVERDUE, max(1.0, (time.perf_counter() - begun) / (self._cost.of(rows) + 1e-9)))

    def _tries(self) -> bool:
        """Whether a request is let in that seems to be late: one a second while nothing is at hand. What was learnt may have been
        seen on a machine that paused, and only what is computed teaches better.
        """
        if self.depth or (now := time.perf_counter()) < self._tried + TRY_SECONDS:
            return False
        self._tried = now
        return True

    @property
    def at_once(self) -> int:
        """How many rows of different requests may be one item: as many as the loop is held up for."""
        return 0 if self._cost is None else min(self._batch_rows, self._cost.rows_within(HOLD_SECONDS))

    def dispatch(self) -> None:
        """Compute what arrived in this turn here, as long as that is quick; give the rest to the thread."""
        items, self._arrived = self._arrived, []
        cost = self._cost
        while items and cost is not None and not self._threaded:
            most = min(self._batch_rows, cost.rows_within(HOLD_SECONDS))
            if cost.of(items[0].rows) > HOLD_SECONDS:
                break
            count, rows = 1, items[0].rows
            while count < len(items) and rows + items[count].rows <= most:
                rows += items[count].rows
                count += 1
            batch, items = items[:count], items[count:]
            self._finish(batch, self._timed(batch))
        if not items:
            return
        self._threaded += len(items)
        for item in items:
            self._queue.put(item)

    def _timed(self, items: Sequence[Item]) -> list[Outcome]:
        start = time.perf_counter()
        for item in items:
            item.taken = start
        outcomes = self._outcomes(items)
        if self._cost is not None and items:
            self._cost.learn(items[0].batch, time.perf_counter() - start)
        return outcomes

    async def drain(self) -> None:
        """Return when every request that was accepted has its answer."""
        await self._idle.wait()

    async def close(self) -> None:
        """Answer what was accepted, then end the thread."""
        await self.drain()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._queue.put(None)
        await asyncio.to_thread(self._worker.join)

    @property
    def alive(self) -> bool:
        """Whether there is a thread that computes."""
        return self._worker.is_alive()

    def _look_for_late(self) -> None:
        now = time.perf_counter()
        for item in [item for item in self._pending if item.deadline <= now]:
            self._pending.discard(item)
            item.end(self._late(item))
        if self.depth:
            soon = min((item.deadline for item in self._pending), default=now + self._seconds) - now
            pause = min(max(soon, 0.005), self._seconds / _SWEEPS)
            self._sweep = self._loop.call_later(pause, self._look_for_late)
        else:
            self._sweep = None

    def _late(self, item: Item) -> Unavailable:
        where = "computing" if item.taken else "waiting in the queue"
        allowed = item.deadline - item.queued
        return Unavailable(
            f"{self._name} did not answer within {allowed:g} s; the time went by {where}", limit="deadline"
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
            self._running = (now, sum(item.rows for item in items))
            outcomes = self._timed(items)
            self._running = (0.0, 0)
            outcomes += [self._late(item) for item in late]
            try:
                self._loop.call_soon_threadsafe(self._took, items + late, outcomes)
            except RuntimeError:  # the loop is closed, nobody waits any more
                return

    def _take(self, first: Item) -> tuple[list[Item], Item | None]:
        """Return what is queued, up to the size of a batch, and the one that did not fit."""
        items, rows = [first], first.rows
        most = self._batch_rows if self._cost is None else min(self._batch_rows, self._cost.rows_within(BATCH_SECONDS))
        while rows < most:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return items, None
            if item is None:
                self._queue.put(None)
                return items, None
            if rows + item.rows > most:
                return items, item
            items.append(item)
            rows += item.rows
        return items, None

    def _outcomes(self, items: Sequence[Item]) -> list[Outcome]:
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

    def _joined(self, items: Sequence[Item], total: int) -> list[Outcome] | None:
        """Return the parts of one computation, or None when the batch failed: then each is tried alone."""
        try:
            names = items[0].inputs
            outputs = self._compute({name: np.concatenate([item.inputs[name] for item in items]) for name in names})
            if any(len(found) != total for found in outputs.values()):
                return None
        except Exception:  # noqa: BLE001 - whatever one request did must not harm its neighbours
            return None
        batch = Batch(outputs)
        parts: list[Outcome] = []
        start = 0
        for item in items:
            parts.append(Part(batch, start, start + item.rows))
            start += item.rows
        return parts

    def _alone(self, item: Item) -> Outcome:
        """Compute one request, a large one in slices, so that its rows bound no memory but its own."""
        size = self._batch_rows
        try:
            if item.rows <= size:
                return Part(Batch(self._compute(item.inputs)), 0, item.rows)
            parts = [
                self._compute({name: value[start : start + size] for name, value in item.inputs.items()})
                for start in range(0, item.rows, size)
            ]
            return Part(
                Batch({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}), 0, item.rows
            )
        except LeptonError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything; the request gets an answer all the same
            return Unavailable(f"{self._name} could not compute: {type(error).__name__}")

    def _took(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        self._threaded -= len(items)
        self._finish(items, outcomes)

    def _finish(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        now = time.perf_counter()
        self.depth -= sum([item.requests for item in items])
        for item, outcome in zip(items, outcomes, strict=True):
            item.done = now
            self._rows -= item.rows
            self._waiting -= min(item.rows, self._batch_rows)
            self._pending.discard(item)
            item.end(outcome)
        if self.depth == 0:
            self._idle.set()  # the timer stays: a lone request would pay for a new one each time
