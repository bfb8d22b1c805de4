"""What the headers of a request say. A caller sends the same block again and again; what it said is remembered.

HPACK is read by the library `hpack`. A block that leaves its table as it was means the same when it comes again, as long as
no other block changes the table; so most requests cost one look into a dictionary.
"""

import re
from collections.abc import Iterable

import hpack
from hpack.table import HeaderTable

from leptonai.serving.plane.grpc import wire

LIST_LIMIT = 32 * 2**10  # bytes of all headers together, as RFC 9113 counts them
BLOCK_LIMIT = 64 * 2**10
BLOCK_FRAMES = 32  # that one block of headers may come in
REMEMBERED = 64  # blocks of one connection

_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_CONNECTION = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_ONCE = frozenset({b"authorization", b"content-type", b"grpc-timeout", b"grpc-encoding", b"x-request-timeout-ms"})
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


class Block:
    """The headers of one request that come in several frames."""

    def __init__(self, id: int, flags: int, first: bytes):
        self.id = id
        self.flags = flags  # of the first frame
        self._parts = [first]
        self._size = len(first)

    def add(self, part: bytes) -> None:
        """Take the next frame. Raises `Fault` when there are too many."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > BLOCK_LIMIT or len(self._parts) > BLOCK_FRAMES:
            raise wire.Fault(wire.ENHANCE_YOUR_CALM, f"the headers are longer than {BLOCK_LIMIT} bytes")

    def whole(self) -> bytes:
        """Return the block."""
        return b"".join(self._parts)


class Head:
    """The headers of a request that are right as HTTP/2. `seconds`: the deadline that the caller set."""

    __slots__ = ("fields", "http", "method", "path", "repeated", "seconds", "well_timed")

    def __init__(self, fields: dict[bytes, bytes], repeated: bytes | None):
        self.fields = fields
        self.method = fields[b":method"]
        self.path = fields[b":path"]
        self.repeated = repeated  # a header that may stand there once, and stood there twice
        found = _TIMEOUT.fullmatch(fields.get(b"grpc-timeout", b""))
        self.seconds = None if found is None else int(found[1]) * _SECONDS[found[2]]
        self.well_timed = found is not None or b"grpc-timeout" not in fields
        media = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        # What is no gRPC is answered by a status of HTTP (gRPC over HTTP/2, "Responses").
        self.http = 405 if self.method != b"POST" else 200 if _is_grpc(media) else 415


def _is_grpc(media: bytes) -> bool:
    return media == b"application/grpc" or media == b"application/grpc+proto"


class _Table(HeaderTable):
    """The table of HPACK, which counts its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Take a field in."""
        self.changes += 1
        super().add(name, value)


class Heads:
    """Reads the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=LIST_LIMIT)
        self._table = _Table()
        self._decoder.header_table = self._table
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Return what a whole block says.

        Raises `Fault` when it cannot be read, so that no later one could be, and `StreamFault` when it is no request.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        lines, changed = self._decoded(block)
        head = _head(lines)
        if not changed:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[block] = head
        return head

    def skip(self, block: bytes) -> None:
        """Read a block for the sake of the table only, such as trailers. Raises `Fault`."""
        if block not in self._known:
            self._decoded(block)

    def _decoded(self, block: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
        before = (self._table.changes, self._table.maxsize)
        try:
            found = self._decoder.decode(block, raw=True)
            lines = [(bytes(line[0]), bytes(line[1])) for line in found]
        except hpack.OversizedHeaderListError:
            raise wire.Fault(wire.ENHANCE_YOUR_CALM, f"the headers are longer than {LIST_LIMIT} bytes") from None
        except (hpack.HPACKError, ValueError, IndexError) as error:
            raise wire.Fault(wire.COMPRESSION_ERROR, f"the headers cannot be read: {error}") from None
        changed = before != (self._table.changes, self._table.maxsize)
        if changed:
            self._known.clear()
        return lines, changed


def _head(lines: Iterable[tuple[bytes, bytes]]) -> Head:
    """Check the fields (RFC 9113, section 8.2 and 8.3). Raises `StreamFault`."""
    found: dict[bytes, bytes] = {}
    repeated = None
    regular = False
    for name, value in lines:
        if name.startswith(b":"):
            if regular or name not in _PSEUDO or name in found:
                raise wire.StreamFault(wire.PROTOCOL_ERROR)
        else:
            regular = True
            if _NAME.fullmatch(name) is None or name in _CONNECTION or (name == b"te" and value != b"trailers"):
                raise wire.StreamFault(wire.PROTOCOL_ERROR)
        if _VALUE.fullmatch(value) is None:
            raise wire.StreamFault(wire.PROTOCOL_ERROR)
        if name in found and name in _ONCE:
            repeated = name
        found[name] = value
    if not found.get(b":method") or not found.get(b":path") or b":scheme" not in found:
        raise wire.StreamFault(wire.PROTOCOL_ERROR)
    return Head(found, repeated)
