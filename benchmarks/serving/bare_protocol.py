"""What is left when a server does nothing but its work: own protocol, batches on the loop, one shape. No keys, limits, deadlines, counts or logs.

A limit to compare with, and no product: it trusts every byte. Started by limit.py, as many of them as cores on one port.
"""

import asyncio
import socket
import sys

import httptools
import numpy as np
import onnxruntime
import orjson
import simdjson
import uvloop

MOST = 32  # images in one batch
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Batches:
    """Computes what has come since the loop was here before."""

    def __init__(self, model: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        tensor = self.session.get_inputs()[0]
        self.name, self.shape = tensor.name, list(tensor.shape[1:])
        self.parser = simdjson.Parser()
        self.waiting: list[tuple[asyncio.Transport, bytes]] = []

    def add(self, transport: asyncio.Transport, body: bytes) -> None:
        """Take one request."""
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.compute)
        self.waiting.append((transport, body))

    def compute(self) -> None:
        """Answer all of them."""
        every, self.waiting = self.waiting, []
        for at in range(0, len(every), MOST):
            part = every[at : at + MOST]
            images = np.empty((len(part), *self.shape), np.float32)
            for image, (_, body) in zip(images, part, strict=True):
                document = self.parser.parse(body)
                numbers = document.at_pointer("/inputs/0/data").as_buffer(of_type="d")  # type: ignore[union-attr]
                image[...] = np.frombuffer(numbers, np.float64).reshape(self.shape)
                del document
            scores = self.session.run(None, {self.name: images})[0]
            for (transport, _), row in zip(part, scores, strict=True):
                said = {"outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, len(row)], "data": row}]}
                answer = orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)
                transport.write(HEAD % len(answer) + answer)


class Bare(asyncio.Protocol):
    """One connection."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.parts: list[bytes] = []

    def on_body(self, part: bytes) -> None:
        """Called by the parser."""
        self.parts.append(part)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.batches.add(self.transport, b"".join(self.parts))  # type: ignore[arg-type]
        self.parts = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)


def main(port: str, model: str) -> None:
    """Answer until killed."""

    async def forever() -> None:
        batches = Batches(model)
        listen = socket.socket()
        listen.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listen.bind(("127.0.0.1", int(port)))
        server = await asyncio.get_running_loop().create_server(lambda: Bare(batches), sock=listen, backlog=1024)
        await server.serve_forever()

    uvloop.run(forever())


if __name__ == "__main__":
    main(*sys.argv[1:])
