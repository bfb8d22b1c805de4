"""Messages between the processes of a Site: a JSON header and raw bytes, each with its length in front. No code in them.

::

    4 bytes  length of the header, big endian
    header   a JSON object; its "sizes" says how long each part is
    parts    bytes, one after the other
"""

import json
import socket
import struct
from asyncio import StreamReader
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from leptonai.core.errors import Corrupt

HEADER_LIMIT = 64 * 2**20
PART_LIMIT = 2**32
SMALL = 64 * 2**10  # what is joined, so that it is sent in one go

_LENGTH = struct.Struct(">I")


class Frame(NamedTuple):
    """One message."""

    header: dict[str, Any]
    parts: list[bytes]


def pack(header: dict[str, Any], parts: Sequence[bytes | memoryview] = ()) -> bytes:
    """Return what comes before the parts on the wire."""
    sizes = [memoryview(part).nbytes for part in parts]
    data = json.dumps({**header, "sizes": sizes}, separators=(",", ":")).encode()
    return _LENGTH.pack(len(data)) + data


def send(connection: socket.socket, header: dict[str, Any], parts: Sequence[bytes | memoryview] = ()) -> None:
    """Send one message and wait until the kernel has it. Raises `OSError` when the other end is gone."""
    connection.sendall(pack(header, parts))
    for part in parts:
        connection.sendall(part)


def quick(header: dict[str, Any], parts: Sequence[bytes | memoryview] = ()) -> list[bytes | memoryview]:
    """Return what is to be sent, by a faster writer of JSON, which knows no NaN and no integer of more than 64 bits.

    A small message is one piece. Raises `TypeError` for what cannot be written, such as half a surrogate pair.
    """
    sizes = [memoryview(part).nbytes for part in parts]
    data = orjson.dumps({**header, "sizes": sizes})
    head = _LENGTH.pack(len(data)) + data
    return [b"".join((head, *parts))] if sum(sizes) < SMALL else [head, *parts]


def parse(data: bytes | bytearray | memoryview) -> tuple[dict[str, Any], list[int]]:
    """Return the header of a message that `quick` made, and the sizes of its parts. Raises `Corrupt`."""
    return _header(data, orjson.loads)


def receive_alone(connection: socket.socket, buffer: bytearray) -> Frame | None:
    """Return the next message of one who waits for the answer before he sends another one, most often by one system call.

    `buffer`: room to read to, that is used again. Returns None at the end of the stream. Raises `Corrupt` also when more
    came than one message.
    """
    have = connection.recv_into(buffer)
    if have == 0:
        return None
    view = memoryview(buffer)
    while have < _LENGTH.size:
        have += _some(connection, view[have:])
    end = _LENGTH.size + _limited(_LENGTH.unpack_from(buffer)[0], HEADER_LIMIT)
    there = bytes(view[_LENGTH.size : min(have, end)])
    if have < end:
        there += _exactly(connection, end - have) or b""
        have = end
    header, sizes = parse(there)
    size = sum(sizes)
    if have - end > size:
        raise Corrupt("a message between two processes of the Site is longer than it says")
    body = bytearray(size)
    body[: have - end] = view[end:have]
    rest = memoryview(body)[have - end :]
    while rest:
        rest = rest[_some(connection, rest) :]
    parts, at = [], 0
    for length in sizes:
        parts.append(memoryview(body)[at : at + length])
        at += length
    return Frame(header, parts)  # type: ignore[arg-type]  # views, which are bytes for our purposes


def _some(connection: socket.socket, view: memoryview) -> int:
    got = connection.recv_into(view)
    if got == 0:
        raise ConnectionResetError("the other process went away in the middle of a message")
    return got


def receive(connection: socket.socket) -> Frame | None:
    """Return the next message, or None at the end of the stream. Raises `Corrupt` for what is no message."""
    length = _exactly(connection, _LENGTH.size, allow_end=True)
    if length is None:
        return None
    header, sizes = _header(_exactly(connection, _limited(_LENGTH.unpack(length)[0], HEADER_LIMIT)) or b"")
    return Frame(header, [bytes(_exactly(connection, size) or b"") for size in sizes])


async def receive_async(reader: StreamReader) -> Frame | None:
    """Do the same on a stream of the event loop. Raises also `IncompleteReadError` when the stream ends inside a message."""
    length = await reader.read(1)
    if not length:
        return None
    length += await reader.readexactly(_LENGTH.size - 1)
    header, sizes = _header(await reader.readexactly(_limited(_LENGTH.unpack(length)[0], HEADER_LIMIT)))
    return Frame(header, [await reader.readexactly(size) for size in sizes])


def _header(data: Any, loads: Callable[[Any], Any] = json.loads) -> tuple[dict[str, Any], list[int]]:
    try:
        header = loads(data)
        return header, [_limited(int(size), PART_LIMIT) for size in header.pop("sizes")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt("a message between two processes of the Site cannot be read") from error


def _limited(size: int, limit: int) -> int:
    if not 0 <= size <= limit:
        raise Corrupt(f"a message between two processes of the Site announces {size} bytes")
    return size


def _exactly(connection: socket.socket, size: int, *, allow_end: bool = False) -> bytearray | None:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        got = connection.recv_into(view[done:])
        if got == 0:
            if allow_end and done == 0:
                return None
            raise ConnectionResetError("the other process went away in the middle of a message")
        done += got
    return data
