"""Callers of a plane that count what they are told, and what they are not: over raw sockets, with nothing tried again."""

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np


class Callers:
    """Clients in threads; each sends numbers and expects their sums back, as the `adder` of `bundles` computes them."""

    def __init__(self, port: int, service: str = "adder", add: int = 1000):
        self.port = port
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._service = service
        self._add = add
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, *ways: str) -> None:
        """Begin to call; each way is the name of a method here."""
        for number, way in enumerate(ways):
            thread = threading.Thread(target=self._run, args=(way, number), name=f"caller {way}")
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End with the answers that are due."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, way: str, number: int) -> None:
        call: Callable[[random.Random], None] = getattr(self, way)
        chance = random.Random(number)
        while not self._stop.is_set():
            try:
                call(chance)
            except Exception as error:
                self.failures.append(f"{way}: {type(error).__name__}: {error}")

    def connect(self) -> socket.socket:
        """Return a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def request(self, values: list[float], path: str | None = None) -> bytes:
        """Return a request in rows."""
        return post(
            path or f"/services/{self._service}/predict", json.dumps({"rows": [{"x": x} for x in values]}).encode()
        )

    def expect(self, stream: socket.SocketIO, values: list[float], way: str) -> None:
        """Read one answer, which must be the right one."""
        status, body = read_answer(stream)
        if status == 503 and b"try again" in body and b"what waits" in body:
            self.counts["busy"] += 1  # an answer too, from a machine that has much else to do
            return
        assert status == 200, (status, body[:300])
        found = [row["prediction"] for row in json.loads(body)["predictions"]]
        assert found == [x + self._add for x in values], (values[:3], found[:3])
        self.counts[way] += 1

    def keep_alive(self, chance: random.Random) -> None:
        """Many requests over one connection, one at a time."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            for _ in range(200):
                if self._stop.is_set():
                    return
                values = [float(chance.randrange(10000))]
                connection.sendall(self.request(values))
                self.expect(stream, values, "keep_alive")

    def anew(self, chance: random.Random) -> None:
        """A connection for each request."""
        values = [float(chance.randrange(10000))]
        with self.connect() as connection, connection.makefile("rb") as stream:
            connection.sendall(self.request(values))
            self.expect(stream, values, "anew")

    def pipelined(self, chance: random.Random) -> None:
        """A row of requests at once, and while they are answered another one."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            sent: list[list[float]] = []
            for _ in range(30):
                row = [[float(chance.randrange(10000))] for _ in range(chance.randrange(1, 12))]
                connection.sendall(b"".join(map(self.request, row)))
                sent += row
                for _ in range(chance.randrange(1, len(sent) + 1)):
                    self.expect(stream, sent.pop(0), "pipelined")
            while sent:
                self.expect(stream, sent.pop(0), "pipelined")

    def far_ahead(self, chance: random.Random) -> None:
        """More requests at once than a process takes before it has answered."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            row = [[float(chance.randrange(10000))] for _ in range(60)]
            connection.sendall(b"".join(map(self.request, row)))
            for values in row:
                self.expect(stream, values, "far_ahead")

    def halves(self, chance: random.Random) -> None:
        """A request that arrives in two pieces."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            for _ in range(10):
                values = [float(chance.randrange(10000)) for _ in range(5)]
                data = self.request(values)
                cut = chance.randrange(1, len(data))
                connection.sendall(data[:cut])
                self._stop.wait(chance.random() * 0.3)
                connection.sendall(data[cut:])
                self.expect(stream, values, "halves")

    def large(self, chance: random.Random) -> None:
        """Bodies of some megabytes."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            for _ in range(3):
                values = [float(chance.randrange(10000))] * 100_000
                connection.sendall(self.request(values))
                self.expect(stream, values, "large")

    def binary(self, chance: random.Random) -> None:
        """Raw tensors of the Open Inference Protocol."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            for _ in range(100):
                values = np.array([chance.randrange(10000)], "<f8")
                said = {
                    "inputs": [
                        {
                            "name": "x",
                            "datatype": "FP64",
                            "shape": [1],
                            "parameters": {"binary_data_size": values.nbytes},
                        }
                    ],
                    "parameters": {"binary_data_output": True},
                }
                head = json.dumps(said).encode()
                more = f"Inference-Header-Content-Length: {len(head)}\r\n"
                connection.sendall(post(f"/v2/models/{self._service}/infer", head + values.tobytes(), more))
                status, body = read_answer(stream)
                if status == 503 and b"what waits" in body:
                    self.counts["busy"] += 1
                    continue
                assert status == 200, (status, body[:300])
                assert np.frombuffer(body[-4:], "<f4")[0] == values[0] + self._add
                self.counts["binary"] += 1
                if self._stop.is_set():
                    return


def post(path: str, body: bytes, more: str = "") -> bytes:
    """Return a request as it stands on the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer test\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_answer(stream: socket.SocketIO) -> tuple[int, bytes]:
    """Return status and body. Raises `EOFError` when the connection ends before them."""
    line = stream.readline()
    if not line:
        raise EOFError("the connection was closed without an answer")
    size = 0
    while (header := stream.readline()) != b"\r\n":
        if not header:
            raise EOFError("the connection was closed within an answer")
        if header.lower().startswith(b"content-length:"):
            size = int(header.split(b":")[1])
    body = stream.read(size)
    if len(body) < size:
        raise EOFError("the connection was closed within an answer")
    return int(line.split()[1]), body
