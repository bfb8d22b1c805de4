"""One model version in memory: loaded, warmed by real inference, with its queue."""

import asyncio
import contextlib
import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leptonai.core.errors import Invalid, LeptonError
from leptonai.core.runtimes import LoadedModel
from leptonai.core.signature import Signature
from leptonai.serving.arrays import example
from leptonai.serving.plane.batcher import Batcher, Cost, Item
from leptonai.serving.plane.columns import Answers, Columns
from leptonai.serving.plane.native import NativeModel
from leptonai.serving.plane.pieces import Piecework
from leptonai.serving.plane.quick import Quick
from leptonai.serving.plane.workers import Workers
from leptonai.serving.served import Served

WARM_ROWS = (1, 2, 8, 8, 1)  # the first of a size is slow; the last two say what batches cost


class Replica:
    """A model that answers. `uses` counts the requests that hold it, so that it is closed under none of them."""

    def __init__(self, model: Served, loaded: LoadedModel, seconds: float, cost: Cost, way: str = ""):
        self.model = model
        self.way = way  # how it is computed, where something else than the plain runtime was chosen
        self.load_seconds = seconds
        self.uses = 0
        self.used = False  # since the agent was told last what is
        self.columns = Columns(model.signature)
        self.answers = Answers(model.signature)
        self.quick = Quick(model.signature)
        self._loaded = loaded
        self._unused = asyncio.Event()
        self._batcher = self._queue(cost)
        self.piecework: Piecework | None = None  # what gives answers in pieces
        if isinstance(loaded, NativeModel):
            self.piecework = loaded.piecework(f"model {model.name}/{model.version}")

    @classmethod
    async def open(cls, model: Served, load: Callable[[], LoadedModel], way: str = "") -> "Replica":
        """Load the model and compute a few batches with it. Raises `LeptonError` with the reason why it cannot serve."""
        start = time.perf_counter()
        loaded, cost = await _warmed(model, load)
        return cls(model, loaded, time.perf_counter() - start, cost, way)

    async def become(self, load: Callable[[], LoadedModel], way: str) -> None:
        """Compute in another way from now on; what was accepted before is finished in the one before.

        Raises `LeptonError`, and changes nothing, when that way does not load or compute.
        """
        loaded, cost = await _warmed(self.model, load)
        model, batcher = self._loaded, self._batcher
        self._loaded, self.way = loaded, way
        self._batcher = self._queue(cost)
        await batcher.close()
        await asyncio.to_thread(model.close)

    def _queue(self, cost: Cost) -> Batcher | Workers:
        name, loaded = f"model {self.model.name}/{self.model.version}", self._loaded
        return (
            loaded.batcher(name, cost) if isinstance(loaded, NativeModel) else Batcher(name, loaded.predict, cost=cost)
        )

    def crew(self, numbers: Sequence[int], wanted: int) -> None:
        """Have these workers compute it from now on, where workers do; those that go answer what they have. `wanted`: how many
        there are to be, with those that are being started.
        """
        if isinstance(self._batcher, Workers):
            self._batcher.crew.change(numbers, wanted)
        if self.piecework is not None:
            self.piecework.crew.change(numbers, wanted)

    @property
    def workers(self) -> tuple[int, int] | None:
        """How many workers there are to be, and how many there are; None where none compute it."""
        crew = self._batcher.crew if isinstance(self._batcher, Workers) else None
        return None if crew is None else (crew.wanted, crew.up)

    def queue(self) -> dict[str, Any] | None:
        """Return what the agent wants to know of the queue of a version that workers compute; None for others."""
        if not isinstance(self._batcher, Workers):
            return None
        streams = 0 if self.piecework is None else self.piecework.running
        return {**self._batcher.note(), "streams": streams}

    @property
    def depth(self) -> int:
        """Requests that wait or are being computed."""
        return self._batcher.depth

    @property
    def ready(self) -> bool:
        """Whether it can compute now."""
        return self._batcher.alive

    def submit(self, inputs: Mapping[str, Any], then: Callable[[Item], None], seconds: float | None = None) -> Item:
        """Queue one request; `then` is called when there is an outcome, after `seconds` at most. Raises `Busy`."""
        return self._batcher.submit(inputs, len(next(iter(inputs.values()))), then, seconds)

    @property
    def at_once(self) -> int:
        """How many rows of different requests may be computed as one; none where workers compute."""
        return self._batcher.at_once if isinstance(self._batcher, Batcher) else 0

    def compute(self, inputs: Mapping[str, Any], then: Callable[[Item], None], requests: int) -> None:
        """Compute the rows of so many requests as one, in this turn of the loop where it is quick; else as `submit`."""
        assert isinstance(self._batcher, Batcher)  # noqa: S101  (at_once)
        self._batcher.submit(inputs, len(next(iter(inputs.values()))), then, requests=requests)
        self._batcher.dispatch()

    def hold(self) -> None:
        """Say that a request uses it."""
        self.uses += 1
        self.used = True

    def release(self) -> None:
        """Say that the request is done."""
        self.uses -= 1
        if self.uses == 0:
            self._unused.set()

    async def close(self) -> None:
        """Wait for the requests that use it, then free it."""
        while self.uses:
            self._unused.clear()
            await self._unused.wait()
        await self._batcher.close()
        if self.piecework is not None:
            self.piecework.close()
        await asyncio.to_thread(self._loaded.close)


async def _warmed(model: Served, load: Callable[[], LoadedModel]) -> tuple[LoadedModel, Cost]:
    loaded = await asyncio.to_thread(load)
    try:
        return loaded, await asyncio.to_thread(warm, model.signature, loaded)
    except BaseException:
        loaded.close()
        raise
    finally:
        _give_back()


def _give_back() -> None:
    """Give the memory that only the loading needed back to the system, where the C library is one that keeps it."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def warm(signature: Signature, loaded: LoadedModel) -> Cost:
    """Compute batches of several sizes, and return what the last ones cost.

    Raises `Invalid` when the model does not do what its signature says.
    """
    took: dict[int, float] = {}
    if not getattr(loaded, "predicts", True):
        return Cost(1, 0.01)
    for rows in WARM_ROWS:
        start = time.perf_counter()
        try:
            outputs = loaded.predict({spec.name: example(spec, rows) for spec in signature.inputs})
        except LeptonError as error:
            if isinstance(error, Invalid) and signature.task == "custom":
                continue  # a user's class looks at its input, and refuses what was made up
            raise Invalid(f"it cannot compute a batch of {rows}: {error.message}") from error
        took[rows] = time.perf_counter() - start
        for spec in signature.outputs:
            if spec.name not in outputs:
                raise Invalid(f"its signature names the output {spec.name!r}, which the model does not give")
            found = outputs[spec.name]
            if found.shape[:1] != (rows,):
                raise Invalid(f"output {spec.name!r} has the shape {found.shape} for a batch of {rows} rows")
    rows = max(took, default=1)
    return Cost(rows, max(took.get(rows, 0.0), 1e-5), took.get(1) if rows > 1 else None)
