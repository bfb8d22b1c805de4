"""A load generator: so little of it stands between the wire and the clock that the service is measured, not this.

Closed loop: each connection sends its next request when it has its answer. Open loop: requests are due at moments that do not
depend on the answers (a Poisson process), and a request's time counts from when it was due, so that a service that stalls
shows it (G. Tene's "coordinated omission").
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

LATE = 10_000  # requests that are due and not sent; more are not counted on
BUSY = 0.85  # share of a core from which on the client itself may be what is measured


class Level(NamedTuple):
    """What was measured at one load. Times in milliseconds."""

    connections: int
    rate: float | None  # that was asked for, of an open loop
    seconds: float
    answers: int
    per_second: float
    p50: float
    p90: float
    p99: float
    worst: float
    failed: int  # answers other than 200, and connections that broke
    statuses: dict[str, int]
    client: float  # share of one core that the client took

    @property
    def bound(self) -> bool:
        """Whether the client may have been the bottleneck."""
        return self.client >= BUSY


class _Connection(asyncio.Protocol):
    """One connection: sends a request, takes the answer, tells the run."""

    def __init__(self, run: "_Run"):
        self._run = run
        self._data = b""
        self._due = 0.0
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._run.free(self)

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._data:
            data = self._data + data
        end = data.find(b"\r\n\r\n")
        if end > 0:
            at = data.find(b"content-length: ", 0, end)
            if at < 0:
                self._run.broke("no content-length")
                self.transport.abort()
                return
            length = int(data[at + 16 : data.index(b"\r\n", at)])
            if len(data) >= end + 4 + length:
                self._data = b""
                self._run.answered(data[9:12], time.perf_counter() - self._due)
                self._run.free(self)
                return
        self._data = data

    def connection_lost(self, _error: Exception | None) -> None:
        self._run.lost()


class _Run:
    """One level."""

    def __init__(self, requests: Sequence[bytes], rate: float | None):
        self.loop = asyncio.get_running_loop()
        self.times: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.failed = 0
        self.counting = self.stopping = False
        self._requests = requests
        self._next = 0
        self._rate = rate
        self._idle: deque[_Connection] = deque()
        self._due: deque[float] = deque()

    def request(self) -> bytes:
        self._next = (self._next + 1) % len(self._requests)
        return self._requests[self._next]

    def free(self, connection: _Connection) -> None:
        if self.stopping:
            return
        if self._rate is None:
            connection.send(self.request(), time.perf_counter())
        elif self._due:
            connection.send(self.request(), self._due.popleft())
        else:
            self._idle.append(connection)

    async def pace(self, until: float) -> None:
        """Make requests due, of an open loop."""
        assert self._rate is not None  # noqa: S101  (called for open loops only)
        due = time.perf_counter()
        while due < until:
            due += random.expovariate(self._rate)
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            if self._idle:
                self._idle.popleft().send(self.request(), due)
            elif len(self._due) < LATE:
                self._due.append(due)
            else:
                self.broke("too far behind")

    def answered(self, status: bytes, seconds: float) -> None:
        if self.counting:
            self.statuses[status.decode("latin-1")] += 1
            if status == b"200":
                self.times.append(seconds)
            else:
                self.failed += 1

    def broke(self, why: str) -> None:
        if self.counting:
            self.failed += 1
            self.statuses[why] += 1

    def lost(self) -> None:
        if not self.stopping:
            self.broke("connection lost")


async def _level(
    address: tuple[str, int], requests: Sequence[bytes], connections: int, seconds: float, rate: float | None
) -> Level:
    run = _Run(requests, rate)
    made = [(await run.loop.create_connection(lambda: _Connection(run), *address))[1] for _ in range(connections)]
    try:
        warm = min(0.5, seconds / 4)
        pacing = None if rate is None else asyncio.ensure_future(run.pace(time.perf_counter() + warm + seconds))
        await asyncio.sleep(warm)
        run.counting = True
        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        run.counting = False
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
        if pacing is not None:
            pacing.cancel()
    finally:
        run.stopping = True
        for connection in made:
            connection.transport.abort()
        await asyncio.sleep(0)
    times = sorted(run.times)

    def of(share: float) -> float:
        return 1e3 * times[min(len(times) - 1, int(share * len(times)))] if times else 0.0

    return Level(
        connections, rate, took, len(times), len(times) / took, of(0.5), of(0.9), of(0.99), 1e3 * times[-1] if times else 0.0,
        run.failed, dict(run.statuses), cpu / took,
    )  # fmt: skip


def measure(
    address: tuple[str, int], requests: Sequence[bytes], connections: int, seconds: float, rate: float | None = None
) -> Level:
    """Load an address (host, port) with ready HTTP requests, in turn, over so many connections, for about so many seconds.

    With `rate` (requests a second) it is an open loop. Raises `OSError` where nobody listens.
    """
    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:  # the client's install has none
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_level(address, requests, connections, seconds, rate))


def request(method: str, path: str, host: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return a request as it stands on the wire."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
