"""Requests byte by byte: what no client library would send, and how long the answer takes."""

import contextlib
import select
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from serving.load import Request

_HANG_SECONDS = 5.0


@dataclass(frozen=True)
class Said:
    """What came back. `status` 0: hung up without an answer; -1: neither within the time; -2: nobody listens."""

    status: int
    body: bytes
    seconds: float
    sent: int = 0

    @property
    def refused(self) -> bool:
        """Whether it was told that the request is wrong."""
        return 400 <= self.status < 500


def connect(base: str) -> socket.socket:
    """Return a connection to a server. Raises `OSError`."""
    where = urlsplit(base)
    return socket.create_connection((where.hostname or "127.0.0.1", where.port or 80), timeout=5.0)


def head(path: str, headers: Mapping[str, str], length: int | None, method: str = "POST") -> bytes:
    """Return the head of a request. `length`: None for a chunked body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def ask(base: str, request: Request, body: bytes, seconds: float = _HANG_SECONDS) -> Said:
    """Post a body by the path and headers of a request."""
    return stream(base, [head(request.path, request.headers, len(body)), body], seconds)


def stream(base: str, pieces: Iterable[bytes], seconds: float = _HANG_SECONDS, after: float = _HANG_SECONDS) -> Said:
    """Send pieces until there is an answer, for `seconds` at most; then wait `after` seconds for one.

    A server may answer before it has read everything; then no more is sent.
    """
    start = time.perf_counter()
    sent = 0
    try:
        line = connect(base)
    except OSError:
        return Said(-2, b"", time.perf_counter() - start)
    with line:
        line.setblocking(False)
        with contextlib.suppress(OSError):
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    readable, writable, _ = select.select([line], [line], [], 0.2)
                    if readable or time.perf_counter() - start > seconds:
                        break
                    if writable:
                        done = line.send(view[: 1 << 20])
                        sent, view = sent + done, view[done:]
                if view:
                    break
        return _answer(line, start, sent, after)


def _answer(line: socket.socket, start: float, sent: int, after: float) -> Said:
    data = b""
    line.settimeout(after)
    try:
        while not _whole(data):
            piece = line.recv(65536)
            if not piece:
                break
            data += piece
    except TimeoutError:
        if not data:
            return Said(-1, b"", time.perf_counter() - start, sent)
    except OSError:
        pass
    first = data.split(b"\r\n", 1)[0].split(b" ")
    status = int(first[1]) if len(first) > 1 and first[1].isdigit() else 0
    return Said(status, data.partition(b"\r\n\r\n")[2], time.perf_counter() - start, sent)


def _whole(data: bytes) -> bool:
    begin, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    lower = begin.lower()
    if b"transfer-encoding: chunked" in lower:
        return body.endswith(b"0\r\n\r\n")
    _, found, rest = lower.partition(b"content-length:")
    return bool(found) and len(body) >= int(rest.split(b"\r\n", 1)[0])
