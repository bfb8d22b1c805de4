"""The frames of HTTP/2 (RFC 9113) and the little of HPACK (RFC 7541) that answers need. Bytes only, no connection."""

import struct
from collections.abc import Iterable, Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = struct.Struct(">IBI")  # length in 24 bits and kind in 8, flags, stream
WORD = struct.Struct(">I")
SETTING = struct.Struct(">HI")
HALF = 2**31 - 1  # the largest window, and the largest id of a stream

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11


class Fault(Exception):
    """What ends a connection: an error of RFC 9113, section 7."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


class StreamFault(Exception):
    """What ends one stream, while the others go on."""

    def __init__(self, code: int):
        super().__init__(str(code))
        self.code = code


def need(right: bool, code: int) -> None:
    """Raise `Fault` with an error of RFC 9113 when something is not right."""
    if not right:
        raise Fault(code, "a frame is not as RFC 9113 has it")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame as it stands on the wire."""
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(name, value) for name, value in values.items()))


def window_update(stream: int, more: int) -> bytes:
    """Return the frame by which the peer may send so many bytes more; stream 0 is the whole connection."""
    return frame(WINDOW_UPDATE, 0, stream, WORD.pack(more))


def reset(stream: int, code: int) -> bytes:
    """Return the frame that ends a stream at once."""
    return frame(RST_STREAM, 0, stream, WORD.pack(code))


def go_away(last: int, code: int, message: str = "") -> bytes:
    """Return the frame that says that no stream after `last` is looked at."""
    return frame(GOAWAY, 0, 0, WORD.pack(last) + WORD.pack(code) + message.encode()[:200])


def field(name: bytes, value: bytes) -> bytes:
    """Return a header field as HPACK writes one that nobody remembers, so the other end keeps no table of ours."""
    return b"\x00%s%s%s%s" % (_length(len(name)), name, _length(len(value)), value)


def fields(lines: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return several fields."""
    return b"".join(field(name, value) for name, value in lines)


def status(code: int) -> bytes:
    """Return the field ``:status``, which comes first."""
    return b"\x88" if code == 200 else b"\x08\x03%d" % code  # entry 8 of the static table, or its name alone


def _length(size: int) -> bytes:
    """Return a length in seven bits and what follows (RFC 7541, section 5.1), without the Huffman code."""
    if size < 127:
        return bytes((size,))
    rest, made = size - 127, bytearray((127,))
    while rest >= 128:
        made.append(rest % 128 + 128)
        rest //= 128
    made.append(rest)
    return bytes(made)


def unpadded(payload: bytes, flags: int) -> bytes:
    """Return the payload of a DATA or HEADERS frame without its padding. Raises `Fault`."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Fault(PROTOCOL_ERROR, "the padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
