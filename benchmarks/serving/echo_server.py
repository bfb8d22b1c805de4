"""A server that answers at once, to see what the load generator itself costs. Started by limit.py."""

import asyncio
import sys

import uvloop


class Echo(asyncio.Protocol):
    """Answers each request that came whole with ten numbers; knows just enough of HTTP for the load generator."""

    body = b'{"scores":[' + b",".join([b"-1.2345678"] * 10) + b"]}"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data = self.data + data if self.data else data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.data[:end].lower()
        at = head.find(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(self.data) >= end + 4 + length:
            self.data = b""
            self.transport.write(self.answer)  # type: ignore[attr-defined]


def main(port: str) -> None:
    """Echo until killed."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", int(port))
        await server.serve_forever()

    uvloop.run(forever())


if __name__ == "__main__":
    main(sys.argv[1])
