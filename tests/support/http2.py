"""A client that speaks HTTP/2 frame by frame, and so can also do what no client should."""

import socket
from typing import NamedTuple

import hpack

from leptonai.serving.plane.grpc import wire

PATH = "/inference.GRPCInferenceService/ServerLive"
EMPTY = b"\0\0\0\0\0"  # a message of no bytes


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error in a GOAWAY or RST_STREAM frame."""
        return int.from_bytes(self.payload[-4:] if self.kind == wire.RST_STREAM else self.payload[4:8], "big")


class Raw:
    """One connection, greeted."""

    def __init__(self, address: str, *, greet: bool = True, settings: dict[int, int] | None = None):
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        if greet:
            self.send(wire.PREFACE + wire.settings(settings or {}))

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def block(self, path: str = PATH, **more: str) -> bytes:
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "here", "te": "trailers"}
        fields |= {"content-type": "application/grpc"} | {k.replace("_", "-"): v for k, v in more.items()}
        return self.encoder.encode([(name, value) for name, value in fields.items() if value])

    def head(self, id: int, path: str = PATH, end: bool = False, **more: str) -> bytes:
        flags = wire.END_HEADERS | (wire.END_STREAM if end else 0)
        return wire.frame(wire.HEADERS, flags, id, self.block(path, **more))

    def call(self, id: int, path: str = PATH, body: bytes = EMPTY, **more: str) -> bytes:
        return self.head(id, path, **more) + wire.frame(wire.DATA, wire.END_STREAM, id, body)

    def frame(self) -> Frame | None:
        """The next frame; None when the connection is closed."""
        while True:
            if len(self.buffer) >= 9:
                word, flags, stream = wire.FRAME.unpack_from(self.buffer)
                end = 9 + (word >> 8)
                if len(self.buffer) >= end:
                    found, self.buffer = Frame(word & 255, flags, stream, self.buffer[9:end]), self.buffer[end:]
                    return found
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.buffer += data

    def until(self, *kinds: int) -> Frame | None:
        """The next frame of some kinds; headers on the way are read, so that later ones can be."""
        while (found := self.frame()) is not None and found.kind not in kinds:
            if found.kind == wire.HEADERS:
                self.decoder.decode(found.payload)
        return found

    def answer(self, id: int) -> tuple[dict[str, str], bytes]:
        """The headers and trailers of an answer, and its body."""
        fields: dict[str, str] = {}
        body = b""
        while (found := self.frame()) is not None:
            if found.kind == wire.HEADERS:
                lines = dict(self.decoder.decode(found.payload))
                if found.stream == id:
                    fields |= lines
            elif found.kind == wire.DATA and found.stream == id:
                body += found.payload
            if found.stream == id and (found.kind == wire.RST_STREAM or found.flags & wire.END_STREAM):
                return fields, body
        raise AssertionError("the connection was closed before the answer")
