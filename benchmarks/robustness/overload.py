"""Row 19: an open loop that offers several times what a server can do, and what it is like afterwards."""

import asyncio
import time
from collections import Counter
from urllib.parse import urlsplit

import numpy as np

from robustness.product import Product, Stream
from robustness.report import Found

_MOST = 3000  # connections
_GIVE_UP = 30.0  # seconds after which a client waits no more
_BOUND = 5.0  # seconds: more than that for the p99 of what was admitted is no bound that a caller can live with


class _Client(asyncio.Protocol):
    """A connection that asks once at a time."""

    def __init__(self, crowd: "_Crowd"):
        self.crowd = crowd
        self.begun = 0.0
        self.data = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self) -> None:
        self.begun = time.perf_counter()
        self.data = b""
        assert self.transport is not None
        self.transport.write(self.crowd.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end or not self.begun:
            return
        lower = head.lower()
        _, found, rest = lower.partition(b"content-length:")
        if (found and len(body) >= int(rest.split(b"\r\n", 1)[0])) or (not found and body.endswith(b"0\r\n\r\n")):
            self.crowd.answered(self, int(head.split(b" ", 2)[1]), b"connection: close" not in lower)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.begun:
            self.crowd.answered(self, 0, False)
        self.transport = None


class _Crowd:
    """Callers who come at a rate, whether or not those before were answered."""

    def __init__(self, product: Product):
        where = urlsplit(product.base)
        self.where = (where.hostname or "127.0.0.1", where.port or 80)
        good = product.good
        lines = [f"POST {good.path} HTTP/1.1", "Host: 127.0.0.1", *(f"{n}: {v}" for n, v in good.headers.items())]
        body = good.bodies[0]
        self.request = ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode() + body
        self.idle: list[_Client] = []
        self.open = 0
        self.out = 0
        self.kinds: Counter[str] = Counter()
        self.good: list[float] = []
        self.shed: list[float] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.waiting: set[_Client] = set()

    def answered(self, client: _Client, status: int, keep: bool) -> None:
        took = time.perf_counter() - client.begun
        client.begun = 0.0
        self.waiting.discard(client)
        self.kinds[str(status) if status else "broken"] += 1
        if status == 200:
            self.good.append(took)
        elif status in (429, 503):
            self.shed.append(took)
        if keep and client.transport is not None:
            self.idle.append(client)
        else:
            self.open -= 1
            if client.transport is not None:
                client.transport.close()

    async def come(self) -> None:
        while self.idle:
            client = self.idle.pop()
            if client.transport is not None and not client.transport.is_closing():
                self.waiting.add(client)
                client.ask()
                return
            self.open -= 1
        if self.open >= _MOST:
            self.kinds["no connection left"] += 1
            return
        self.open += 1
        begun = time.perf_counter()
        try:
            _, made = await asyncio.get_running_loop().create_connection(lambda: _Client(self), *self.where)
        except OSError:
            self.open -= 1
            self.kinds["refused"] += 1
            return
        self.waiting.add(made)
        made.ask()
        made.begun = begun

    async def run(self, rate: float, seconds: float) -> None:
        start = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - start) < seconds:
            while sent < now * rate:
                sent += 1
                task = asyncio.create_task(self.come())
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            await asyncio.sleep(0.002)

    async def end(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while (self.tasks or self.waiting) and time.perf_counter() < until:
            await asyncio.sleep(0.05)
        self.kinds["never answered"] += len(self.waiting)
        for client in [*self.idle, *self.waiting]:
            client.begun = 0.0
            if client.transport is not None:
                client.transport.abort()
        await asyncio.sleep(0.05)


def overload(product: Product, seconds: float, times: float = 5.0) -> Found:
    """Row 19, with a model that takes milliseconds, so that the load comes from one process."""
    with Stream(product, 16) as calm:
        time.sleep(2.0)
    rate = (calm.total - calm.failed) / 2.0
    normal = float(np.median(_alone(product, 10)))
    crowd, back = asyncio.run(_overload(product, rate * times, seconds, normal))
    p99 = float(np.percentile(crowd.good, 99)) if crowd.good else float("inf")
    shed = float(np.percentile(crowd.shed, 99)) if crowd.shed else None
    broken = sum(count for kind, count in crowd.kinds.items() if kind not in ("200", "429", "503"))
    figures = {"capacity_per_s": round(rate), "offered_per_s": round(rate * times), "kinds": dict(crowd.kinds),
               "p99_admitted_s": round(p99, 3), "p99_shed_s": None if shed is None else round(shed, 3),
               "normal_ms": round(normal * 1000, 1), "back_to_normal_s": back}  # fmt: skip
    short = f"p99 of admitted {p99:.1f} s, {len(crowd.shed)} told to come again, {broken} otherwise lost, "
    short += f"normal after {back} s" if back is not None else "not normal after 20 s"
    return Found(p99 < _BOUND and not broken and back is not None and back < 2.0, short, figures)


async def _overload(product: Product, rate: float, seconds: float, normal: float) -> tuple[_Crowd, float | None]:
    crowd = _Crowd(product)
    await crowd.run(rate, seconds)
    start = time.perf_counter()
    back = None
    while time.perf_counter() - start < 20.0:
        took = await asyncio.to_thread(product.works, 20.0)
        if took is not None and took < max(3 * normal, 0.05):
            back = round(time.perf_counter() - start - took, 2)
            break
        await asyncio.sleep(0.05)
    await crowd.end(max(0.0, _GIVE_UP - 20.0))
    return crowd, back


def _alone(product: Product, count: int) -> list[float]:
    return [took for _ in range(count) if (took := product.works()) is not None] or [0.1]
