"""Calls of services whose model is not in memory: each is held while its model is loaded, then taken up again.

The agent is asked once for a service however many call it. What is held is bounded in number, in bytes and in time, so that a
service that nobody can load costs the others nothing.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from leptonai.core.errors import Busy, LeptonError, Unavailable
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.replica import Replica
from leptonai.serving.served import Served
from leptonai.serving.table import IDLE, UNLOADED

HOLD_SECONDS = 30.0  # for a call to wait; the load itself goes on
CALLS = 256  # of one service that are held in one process
EVERY = 2048  # of all services
BYTES = 64 << 20  # of their bodies


class Away(Unavailable):
    """The model of a service is not in memory, and can be loaded."""

    def __init__(self, service: str, op: str = "want"):
        super().__init__(f"the model of service {service} is being loaded: try again", retry_after=1.0)
        self.service = service
        self.op = op


class Absent(Replica):
    """Stands where the replica of a model would, which is not in memory: it knows what the model takes, and computes nothing."""

    def __init__(self, model: Served, service: str, why: str):
        self.model = model
        self.way = ""
        self.load_seconds = 0.0
        self.uses = 0
        self.used = False
        self.piecework = None
        self.service = service
        self.why = why

    @property
    def depth(self) -> int:
        """Nothing is queued here."""
        return 0

    @property
    def workers(self) -> None:
        """Nothing computes it now."""

    @property
    def at_once(self) -> int:
        """None: each call is held by itself."""
        return 0

    @property
    def ready(self) -> bool:
        """Whether a call would be answered, if only after a load."""
        return self.why != UNLOADED

    @property
    def reason(self) -> str:
        """Say why it is not in memory, as the index of the repository does."""
        after = "nobody called it; " if self.why == IDLE else ""
        return "unloaded" if self.why == UNLOADED else f"{after}loaded by the next call"

    def hold(self) -> None:
        """Raise `Away`, or `Unavailable` when the service was unloaded on purpose."""
        if self.why == UNLOADED:
            raise Unavailable(
                f"service {self.service} was unloaded: load it with POST /v2/repository/models/{self.service}/load, "
                f"or  lepton service load {self.service}",
                retry_after=60.0,
            )
        raise Away(self.service)

    def release(self) -> None:
        """Do nothing: nobody could hold it."""

    def submit(self, inputs: Any, then: Callable[[Item], None], seconds: float | None = None) -> Item:  # noqa: ARG002
        """Raise as `hold` does."""
        self.hold()
        raise AssertionError("it always raises")

    async def close(self) -> None:
        """Do nothing."""


class Waiting:
    """The calls that are held. Used on the event loop only. `ask`: how the agent is told what is wanted."""

    def __init__(self) -> None:
        self.ask: Callable[[dict[str, Any]], None] = lambda _: None
        self.held = 0  # now
        self.total = 0  # since the process runs
        self.seconds = 0.0  # that they waited
        self._bytes = 0
        self._calls: dict[str, list[_Held]] = {}
        self._asked: set[tuple[str, str]] = set()

    def hold(
        self, away: Away, since: float, size: int, again: Callable[[], None], fail: Callable[[LeptonError], None]
    ) -> None:
        """Hold a call of `size` bytes that began at `since` (`time.perf_counter`) until `again` or `fail` is to be called.

        Raises `Busy` when too many are held, `Unavailable` when it has waited for too long.
        """
        calls = self._calls.setdefault(away.service, [])
        if len(calls) >= CALLS or self.held >= EVERY or self._bytes + size > BYTES:
            raise Busy(
                f"service {away.service} is being loaded, and {self.held} calls wait already: try again",
                retry_after=1.0,
            )
        left = since + HOLD_SECONDS - time.perf_counter()
        if left <= 0:
            raise _late(away.service)
        held = _Held(size, again, fail)
        held.timer = asyncio.get_running_loop().call_later(left, self._late, away.service, held)
        calls.append(held)
        self.held += 1
        self.total += 1
        self._bytes += size
        if (away.service, away.op) not in self._asked:
            self._asked.add((away.service, away.op))
            self.ask({"op": away.op, "service": away.service})

    def resume(self, service: str) -> None:
        """Take up the calls of a service of which there is news."""
        self._asked -= {asked for asked in self._asked if asked[0] == service}
        for held in self._take(service):
            held.again()

    def refuse(self, service: str, error: LeptonError) -> None:
        """Fail the calls of a service whose model cannot be loaded."""
        self._asked -= {asked for asked in self._asked if asked[0] == service}
        for held in self._take(service):
            held.fail(error)

    def _take(self, service: str) -> "list[_Held]":
        calls = self._calls.pop(service, [])
        for held in calls:
            self._leave(held)
        return calls

    def _leave(self, held: "_Held") -> None:
        self.held -= 1
        self.seconds += time.perf_counter() - held.since
        self._bytes -= held.size
        if held.timer is not None:
            held.timer.cancel()

    def _late(self, service: str, held: "_Held") -> None:
        calls = self._calls.get(service, [])
        if held in calls:
            calls.remove(held)
            self._leave(held)
            held.fail(_late(service))
        if not calls:  # the next call asks again
            self._calls.pop(service, None)
            self._asked -= {asked for asked in self._asked if asked[0] == service}


class _Held:
    __slots__ = ("again", "fail", "since", "size", "timer")

    def __init__(self, size: int, again: Callable[[], None], fail: Callable[[LeptonError], None]):
        self.size = size
        self.again = again
        self.fail = fail
        self.since = time.perf_counter()
        self.timer: asyncio.TimerHandle | None = None


def _late(service: str) -> Unavailable:
    return Unavailable(
        f"the model of service {service} was not loaded within {HOLD_SECONDS:g} s: try again", retry_after=5.0
    )
