"""The queue of a version that workers compute: all on the event loop, with no thread between a request and its worker.

As soon as a worker is free it is sent what is queued, so a lone request never waits. When a worker dies, what it had not
answered is sent to another one, or to the one that takes its place: at first together, as it was, then each request alone, so
that one that kills its worker takes nobody with it; a request that was there when three workers died is given up.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leptonai.core.errors import Busy, Corrupt, LeptonError, Unavailable, Unsupported, from_dict
from leptonai.core.signature import Signature
from leptonai.serving import arrays, frames, pulse
from leptonai.serving.plane.batcher import Cost, Item
from leptonai.serving.plane.crew import Crew, Waits
from leptonai.serving.plane.line import Line
from leptonai.serving.plane.outputs import Batch, Part
from leptonai.serving.plane.values import DATATYPES
from leptonai.serving.workers import ANSWER, Work, slot, why

REPLAYS = 2
SECONDS = 60.0  # that a request has when its caller says nothing
QUEUE_LIMIT = 1024
CAUSE_SECONDS = 0.6  # for the agent to find out why a worker died
_SWEEPS = 20  # how often deadlines are looked at, within the time that a request has by default


class Load:
    """Requests that are computed together. `parts`: the slices of rows that are sent one after the other."""

    __slots__ = ("deaths", "found", "items", "rows", "sent")

    def __init__(self, items: list[Item], deaths: int = 0):
        self.items = items
        self.deaths = deaths  # of workers that had it
        self.rows = sum(item.rows for item in items)
        self.found: list[Mapping[str, Any]] = []  # the outputs of the slices that are computed
        self.sent = 0.0

    def apart(self) -> "Iterator[Load]":
        """Yield each request that nobody answered yet by itself."""
        return (Load([item], self.deaths) for item in self.items if item.outcome is None)


class Workers:
    """See `Batcher`, whose place it takes. Used on the event loop only."""

    def __init__(
        self,
        name: str,
        folder: Path,
        signature: Signature,
        work: Work,
        cost: Cost,
        numbers: Sequence[int] | None = None,
    ):
        """`numbers`: of the workers there are; None: as many as the version says."""
        self.depth = 0  # requests that are queued or being computed
        self._name = name
        self._folder = folder
        self._work = work
        self._cost = cost
        self._outputs = {spec.name: (DATATYPES[spec.datatype].numpy, spec.shape[1:]) for spec in signature.outputs}
        self._queue: deque[Item] = deque()
        self._again: deque[Load] = deque()  # what has to be sent once more comes first
        self._pending: set[Item] = set()
        self._rows = 0
        self._loop = asyncio.get_running_loop()
        self._called = False
        self._sweep: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._ids = 0
        self.crew = Crew(lambda number: Seat(self, slot(folder, number)))
        self.crew.change(range(work.workers) if numbers is None else numbers)
        self._waits = Waits()

    # ---------------------------------------------------------------------------------------------- requests

    def submit(
        self, inputs: Mapping[str, Any], rows: int, then: Callable[[Item], None], seconds: float | None = None
    ) -> Item:
        """Queue a request; `then` is called with it when there is an outcome, after `seconds` at most. Raises `Busy`."""
        if not self._work.predicts:
            raise Unsupported(f"{self._name} gives its answers in pieces only: post to /services/NAME/stream")
        if self.depth >= QUEUE_LIMIT:
            raise Busy(
                f"{self._name} has {self.depth} requests waiting, which is its limit: try again", retry_after=1.0
            )
        allowed = SECONDS if seconds is None else min(seconds, SECONDS)
        ahead = self._cost.each * (self._rows + rows) / max(1, len(self.crew.seats)) + self._cost.fixed
        if self._rows and ahead > allowed:
            raise Busy(
                f"{self._name} needs about {ahead:.3g} s for what waits before this request, which has {allowed:g} s: "
                "try again",
                retry_after=max(1.0, ahead - allowed),
            )
        item = Item(inputs, rows, allowed, then)
        self._pending.add(item)
        self.depth += 1
        self._rows += rows
        if self._sweep is None or self._loop.time() + allowed < self._sweep.when():
            self._idle.clear()
            if self._sweep is not None:
                self._sweep.cancel()
            self._sweep = self._loop.call_later(min(allowed, SECONDS / _SWEEPS), self._look_for_late)
        self._queue.append(item)
        self.dispatch_soon()
        return item

    def dispatch_soon(self) -> None:
        """Send at the end of this turn of the loop, together with all that arrived in it."""
        if not self._called:
            self._called = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._called = False
        while (self._again or self._queue) and (seat := self._free()) is not None:
            load = self._next()
            if load is None:
                return
            self._ids += 1
            seat.take(self._ids, load)

    def _free(self) -> "Seat | None":
        """Return the free worker for which the fewest callers wait, those of the other planes as well."""
        free = [seat for seat in self.crew.seats if seat.free]
        if len(free) < 2:
            return free[0] if free else None
        return min(free, key=Seat.others)

    def _next(self) -> Load | None:
        while self._again:
            load = self._again.popleft()
            load.items = [item for item in load.items if item.outcome is None]
            if load.items:
                load.rows = sum(item.rows for item in load.items)
                return load
        items: list[Item] = []
        rows = 0
        while self._queue and (not items or rows + self._queue[0].rows <= self._work.max_batch):
            item = self._queue.popleft()
            if item.outcome is None:
                items.append(item)
                rows += item.rows
        return Load(items) if items else None

    # ------------------------------------------------------------------------------------------ what comes back

    def inputs(self, load: Load) -> Mapping[str, Any]:
        """Return the arrays of the slice that is next."""
        items, most = load.items, self._work.max_batch
        if len(items) > 1:
            return {name: np.concatenate([item.inputs[name] for item in items]) for name in items[0].inputs}
        if load.rows <= most:
            return items[0].inputs
        start = most * len(load.found)
        return {name: found[start : start + most] for name, found in items[0].inputs.items()}

    def done(self, load: Load, frame: frames.Frame) -> bool:
        """Take what a worker computed; False when slices of it are still to be sent. Raises `Corrupt`."""
        most = self._work.max_batch
        large = len(load.items) == 1 and load.rows > most
        rows = min(most, load.rows - most * len(load.found)) if large else load.rows
        found = self._checked(arrays.unpack(frame), rows)
        now = time.perf_counter()
        self._cost.learn(rows, now - load.sent)
        took = frame.header.get("took")
        began = max(load.sent, now - took) if isinstance(took, float) else load.sent  # it may have had other callers
        if large:
            load.found.append(found)
            if most * len(load.found) < load.rows:
                return False
            found = {name: np.concatenate([part[name] for part in load.found]) for name in found}
        batch, start = Batch(found), 0
        for number, item in enumerate(load.items):
            item.taken = item.taken or load.sent
            item.done = now
            item.batch = load.rows
            item.first = number == 0
            self._waits.count(began - item.queued)
            part = Part(batch, start, start + item.rows)
            start += item.rows
            if item.outcome is None:
                self._end(item, part)
        return True

    def _checked(self, found: dict[str, Any], rows: int) -> dict[str, Any]:
        """Return the outputs, if they are what the signature promises. Raises `Corrupt`."""
        for name, (dtype, shape) in self._outputs.items():
            array = found.get(name)
            if (
                array is None
                or array.dtype != dtype
                or len(array.shape) != len(shape) + 1
                or len(array) != rows
                or any(want not in (-1, got) for want, got in zip(shape, array.shape[1:], strict=True))
            ):
                raise Corrupt(f"a worker of {self._name} gave an output {name!r} that its signature does not allow")
        return {name: found[name] for name in self._outputs}

    def failed(self, load: Load, error: LeptonError) -> None:
        """Take note that the code failed: of several requests each is tried alone, for only one may be at fault."""
        if len(load.items) > 1:
            self._again.extendleft(load.apart())
        elif load.items[0].outcome is None:
            load.items[0].done = time.perf_counter()
            load.items[0].batch = load.rows
            self._end(load.items[0], error)

    def lost(self, load: Load) -> None:
        """Take note that a worker died that had not answered."""
        load.deaths += 1
        load.found.clear()
        if load.deaths < REPLAYS:
            self._again.appendleft(load)
        elif load.deaths == REPLAYS:
            self._again.extendleft(load.apart())
        else:
            self._loop.call_later(CAUSE_SECONDS, self._give_up, load)

    def _give_up(self, load: Load) -> None:
        cause = why(self._folder) or "its cause is in the log of the Site's agent"
        for item in load.items:
            if item.outcome is None:
                self._end(
                    item,
                    Unavailable(f"{self._name}: {load.deaths} workers died while they computed this request: {cause}"),
                )

    # ------------------------------------------------------------------------------------------------ the end

    def _end(self, item: Item, outcome: Part | LeptonError) -> None:
        self._pending.discard(item)
        self.depth -= 1
        self._rows -= item.rows
        item.end(outcome)
        if self.depth == 0 and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
            self._idle.set()

    def _look_for_late(self) -> None:
        now = time.perf_counter()
        for item in [item for item in self._pending if item.deadline <= now]:
            self._end(item, self._late(item))
        if self.depth:
            soon = min((item.deadline for item in self._pending), default=now + SECONDS) - now
            self._sweep = self._loop.call_later(min(max(soon, 0.005), SECONDS / _SWEEPS), self._look_for_late)
        else:
            self._sweep = None

    def _late(self, item: Item) -> Unavailable:
        allowed = item.deadline - item.queued
        if not self.alive:
            cause = why(self._folder) or "it is being started"
            return Unavailable(f"{self._name}: no worker of it runs: {cause}", retry_after=5.0)
        where = "computing" if item.taken else "waiting in the queue"
        return Unavailable(
            f"{self._name} did not answer within {allowed:g} s; the time went by {where}", limit="deadline"
        )

    async def drain(self) -> None:
        """Return when every request that was accepted has its answer."""
        await self._idle.wait()

    async def close(self) -> None:
        """Answer what was accepted, then hang up."""
        await self.drain()
        self.crew.close()

    @property
    def alive(self) -> bool:
        """Whether there is a worker."""
        return self.crew.up > 0

    def note(self) -> dict[str, Any]:
        """Return what the agent wants to know of the queue, see `agent.scaler`."""
        now = time.perf_counter()
        waiting = [now - item.queued for item in self._pending if not item.taken]
        return {"waits": self._waits.note(), "waiting": Waits(waiting).note()}


class Seat:
    """One worker, as this plane sees it: it has at most one batch of ours at a time."""

    def __init__(self, of: Workers, folder: Path):
        self._leaving = False
        self._of = of
        self._folder = folder
        self._load: Load | None = None
        self._id = 0
        self.line = Line(folder / ANSWER, self._heard, self._changed)
        self.line.open()

    @property
    def free(self) -> bool:
        """Whether it can be sent a batch."""
        return self._load is None and self.line.up and not self._leaving

    def leave(self) -> None:
        """Give it nothing more, and hang up when it has answered what it has."""
        self._leaving = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._leaving and self._load is None:
            self.line.close()

    def others(self) -> int:
        """Return how many callers it said it has waiting, and one more while it computes."""
        found = pulse.read(self._folder)
        return 0 if found is None else found.waiting + (found.since > 0)

    def take(self, id: int, load: Load) -> None:
        """Send a batch."""
        self._id, self._load = id, load
        load.sent = time.perf_counter()
        for item in load.items:
            item.taken = load.sent
        self._send()

    def _send(self) -> None:
        assert self._load is not None  # noqa: S101  (`take`)
        header, parts = arrays.pack(self._of.inputs(self._load))
        try:
            pieces = frames.quick({"op": "predict", "id": self._id, **header}, parts)
        except TypeError:  # half a surrogate pair, which JSON can hold and UTF-8 cannot
            load, self._load = self._load, None
            self._of.failed(load, LeptonError("the text of the request cannot be written as UTF-8"))
            return
        self.line.send(pieces)

    def _heard(self, frame: frames.Frame) -> None:
        load, op = self._load, frame.header.get("op")
        if load is None or frame.header.get("id") != self._id:
            raise Corrupt("a worker answered what it was not asked")
        if op == "done":
            if not self._of.done(load, frame):
                load.sent = time.perf_counter()
                self._send()
                return
            self._load = None
        elif op == "failed":
            self._load = None
            self._of.failed(load, error_of(frame))
        else:
            raise Corrupt("a worker said what nobody understands")
        self._end_if_done()
        self._of.dispatch_soon()

    def _changed(self, up: bool) -> None:
        if not up and self._load is not None:
            load, self._load = self._load, None
            self._of.lost(load)
        self._end_if_done()
        self._of.dispatch_soon()

    def close(self) -> None:
        """Hang up."""
        self._load = None
        self.line.close()


def error_of(frame: frames.Frame) -> LeptonError:
    """Return the error that a worker speaks of. Raises `Corrupt`."""
    try:
        return from_dict(dict(frame.header["error"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt("a worker said what nobody understands") from error
