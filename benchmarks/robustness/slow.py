"""Row 6: clients that say nothing, or say it one byte at a time, while others ask in earnest."""

import socket
import time

from robustness import wire
from robustness.product import Product, Stream
from robustness.report import Found


def slowloris(product: Product, connections: int, seconds: float) -> Found:
    """Row 6: `connections` of each kind. A byte a second is what the slow ones send."""
    good = product.good
    begun = {
        "silent": b"",
        "slow header": f"POST {good.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".encode(),
        "slow body": wire.head(good.path, good.headers, len(good.bodies[0])) + good.bodies[0][:10],
    }
    lines: dict[str, list[socket.socket]] = {name: [] for name in begun}
    refused = 0
    with Stream(product, 1, pause=0.05, timeout=5.0) as stream:
        start = time.perf_counter()
        try:
            for name, first in begun.items():
                for _ in range(connections):
                    try:
                        line = wire.connect(product.base)
                        line.setblocking(False)
                        lines[name].append(line)
                        line.send(first)
                    except OSError:
                        refused += 1
            while time.perf_counter() - start < seconds:
                time.sleep(1.0)
                for name in ("slow header", "slow body"):
                    lines[name] = [line for line in lines[name] if _drip(line)]
            open_still = {name: sum(_open(line) for line in found) for name, found in lines.items()}
        finally:
            for line in (line for found in lines.values() for line in found):
                line.close()
    figures = {"open": open_still, "refused": refused, "good": stream.figures(), "seconds": seconds}
    short = ", ".join(f"{count} {name} open" for name, count in open_still.items() if count) or "all closed"
    short += f"; {stream.failed} of {stream.total} good failed" if stream.failed else "; no good one failed"
    return Found(not sum(open_still.values()) and not stream.failed, short, figures)


def _drip(line: socket.socket) -> bool:
    try:
        line.send(b"a" if _open(line) else b"")
    except OSError:
        line.close()
        return False
    return True


def _open(line: socket.socket) -> bool:
    if line.fileno() < 0:
        return False
    try:
        while line.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
