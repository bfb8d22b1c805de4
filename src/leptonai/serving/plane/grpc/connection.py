"""HTTP/2 as the plane speaks it: one connection of a gRPC client, and the requests on it.

It is a state machine over bytes, as RFC 9113 has it, for a server that pushes nothing. What a client may make it keep is
bounded: headers, streams, bodies, and, by a patience that wears out, the frames that cost work and bring nothing (resets,
pings, settings, empty data), which are how such servers were brought down before.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from leptonai.serving.plane.grpc import wire
from leptonai.serving.plane.grpc.heads import Block, Heads
from leptonai.serving.plane.grpc.peer import Peer
from leptonai.serving.plane.grpc.streams import STREAM_WINDOW, Stream
from leptonai.serving.plane.http import BODY_RATE, BODY_SECONDS, HEADER_SECONDS, UNREAD_SECONDS

if TYPE_CHECKING:
    from leptonai.serving.plane.grpc.server import Server

STREAMS = 256  # at once on one connection
CONNECTION_WINDOW = 16 * 2**20  # bytes that all streams of a connection may send ahead
HELD_LIMIT = 64 * 2**20  # bytes of bodies of one connection that wait to be complete
FRAME_LIMIT = 64 * 2**10
IDLE_SECONDS = 300.0  # without a stream
PATIENCE = 1000

_OURS = {
    wire.MAX_CONCURRENT_STREAMS: STREAMS,
    wire.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    wire.MAX_FRAME_SIZE: FRAME_LIMIT,
    wire.MAX_HEADER_LIST_SIZE: 32 * 2**10,
}
_START = wire.settings(_OURS) + wire.window_update(0, CONNECTION_WINDOW - 65535)
_LAST_PING = b"leptonai"


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: "Server"):
        self._server = server
        self._loop = server.loop
        self._transport: Any = None
        self.address = ""
        self._rest = wire.PREFACE  # what of the preface is awaited; later, the beginning of a frame
        self._greeted = self._set_up = False
        self._heads = Heads()
        self._streams: dict[int, Stream] = {}
        self._last = 0  # the highest id of a stream that was opened
        self._block: Block | None = None  # of headers whose end is awaited
        self._room, self._owed = CONNECTION_WINDOW, 0  # for what the client sends
        self.peer = Peer()
        self._held = 0
        self._out: list[bytes] = []
        self._patience = PATIENCE
        self._since = self._loop.time()
        self._blocked_since: float | None = None
        self._closing = self._ended = False

    # ------------------------------------------------------------------------------------------- transport

    def connection_made(self, transport: Any) -> None:
        """Take the connection, unless there are too many."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        self._server.connections.add(self)
        allowed = self._server.limits.opened(self.address)
        if len(self._server.connections) > self._server.limit or not allowed:
            self._fail(wire.Fault(wire.ENHANCE_YOUR_CALM, "too many connections: try again"))
        else:
            self.write(_START)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client; what is computed for it goes to nobody."""
        self._server.connections.discard(self)
        self._server.limits.closed(self.address)
        self._transport = None
        self._end()

    def pause_writing(self) -> None:
        """Read no more: the client does not read its answers."""
        self._blocked_since = self._loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._blocked_since = None
        if self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Read the frames that are whole."""
        if self._ended:
            return
        try:
            if not self._greeted:
                data = self._greet(data)
            elif self._rest:
                data = self._rest + data
            at, end, unpack = 0, len(data), wire.FRAME.unpack_from
            while end - at >= 9 and self._greeted:
                word, flags, id = unpack(data, at)
                stop = at + 9 + (word >> 8)
                if word >> 8 > FRAME_LIMIT:
                    raise wire.Fault(wire.FRAME_SIZE_ERROR, f"a frame is larger than {FRAME_LIMIT} bytes")
                if stop > end:
                    break
                self._frame(word & 255, flags, id & wire.HALF, data[at + 9 : stop])
                at = stop
            if self._greeted:
                self._rest = data[at:]
        except wire.Fault as fault:
            self._fail(fault)

    def _greet(self, data: bytes) -> bytes:
        size = min(len(data), len(self._rest))
        if data[:size] != self._rest[:size]:
            raise wire.Fault(wire.PROTOCOL_ERROR, "this port speaks gRPC over HTTP/2 without TLS")
        self._rest = self._rest[size:]
        self._greeted = not self._rest
        return data[size:]

    # ---------------------------------------------------------------------------------------------- frames

    def _frame(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        if self._block is not None and (kind != wire.CONTINUATION or id != self._block.id):
            raise wire.Fault(wire.PROTOCOL_ERROR, "headers must come in one piece")
        if not self._set_up and kind != wire.SETTINGS:
            raise wire.Fault(wire.PROTOCOL_ERROR, "SETTINGS must come first")
        try:
            if kind == wire.DATA:
                self._data(flags, id, payload)
            elif kind == wire.HEADERS:
                self._headers(flags, id, payload)
            elif kind == wire.WINDOW_UPDATE:
                self._window_update(id, payload)
            elif kind == wire.SETTINGS:
                self._settings(flags, id, payload)
            elif kind == wire.PING:
                self._ping(flags, id, payload)
            elif kind == wire.RST_STREAM:
                self._reset(id, payload)
            elif kind == wire.CONTINUATION:
                self._continuation(flags, id, payload)
            elif kind == wire.GOAWAY:
                self._gone_away(id, payload)
            elif kind == wire.PUSH_PROMISE:
                raise wire.Fault(wire.PROTOCOL_ERROR, "a client cannot push")
            else:  # priorities, which nobody uses any more, and what later texts may add
                wire.need(kind != wire.PRIORITY or (id > 0 and len(payload) == 5), wire.FRAME_SIZE_ERROR)
                self._tire(1)
        except wire.StreamFault as fault:
            self._tire(5)
            self.write(wire.reset(id, fault.code))
            self._drop(id)

    def _data(self, flags: int, id: int, payload: bytes) -> None:
        size = len(payload)
        self._room -= size
        self._owed += size
        if self._room < 0:
            raise wire.Fault(wire.FLOW_CONTROL_ERROR, "more data came than the window has room for")
        if self._owed >= CONNECTION_WINDOW // 2:
            self.write(wire.window_update(0, self._owed))
            self._room, self._owed = self._room + self._owed, 0
        data = wire.unpadded(payload, flags)
        stream = self._streams.get(id)
        if stream is None:
            self._need_known(id)
            self._tire(1)  # it was on its way when we ended the stream
            return
        if stream.ended:
            raise wire.StreamFault(wire.STREAM_CLOSED)
        stream.room -= size
        if stream.room < 0:
            raise wire.StreamFault(wire.FLOW_CONTROL_ERROR)
        stream.ended = bool(flags & wire.END_STREAM)
        if not data and not stream.ended:
            self._tire(1)
        stream.owed += size
        if stream.held == 0:
            stream.begun_body = self._loop.time()
        stream.held += len(data)
        self._held += len(data)
        stream.since = self._since = self._loop.time()
        assert stream.taker is not None  # noqa: S101  (_open)
        if self._held > HELD_LIMIT:
            raise wire.StreamFault(wire.ENHANCE_YOUR_CALM)
        stream.taker.take(data, stream.ended)
        if not stream.ended:
            self.allow_more(stream)

    def _headers(self, flags: int, id: int, payload: bytes) -> None:
        block = wire.unpadded(payload, flags)
        if flags & wire.PRIORITISED:
            wire.need(len(block) >= 5, wire.FRAME_SIZE_ERROR)
            block = block[5:]
        if id % 2 == 0:
            raise wire.Fault(wire.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & wire.END_HEADERS:
            self._open(id, flags, block)
        else:
            self._since = self._loop.time()
            self._block = Block(id, flags, block)

    def _continuation(self, flags: int, id: int, payload: bytes) -> None:
        if self._block is None:
            raise wire.Fault(wire.PROTOCOL_ERROR, "nothing is to be continued")
        self._block.add(payload)
        if flags & wire.END_HEADERS:
            block, self._block = self._block, None
            self._open(id, block.flags, block.whole())

    def _open(self, id: int, flags: int, block: bytes) -> None:
        if id <= self._last:
            self._trailers(id, flags, block)
            return
        self._last = id
        if self._closing or len(self._streams) >= STREAMS:
            self._heads.skip(block)
            raise wire.StreamFault(wire.REFUSED_STREAM)
        head = self._heads.read(block)
        now = self._since = self._loop.time()
        stream = self._streams[id] = Stream(self, id, head, self.peer.window, now)
        stream.ended = bool(flags & wire.END_STREAM)
        stream.taker = self._server.open(stream)
        if stream.ended and id in self._streams:
            stream.taker.take(b"", True)

    def _trailers(self, id: int, flags: int, block: bytes) -> None:
        """Take the headers at the end of a body, which say nothing that is asked for."""
        self._heads.skip(block)
        stream = self._streams.get(id)
        if stream is None:
            self._tire(1)
            return
        if stream.ended:
            raise wire.StreamFault(wire.STREAM_CLOSED)
        if not flags & wire.END_STREAM:
            raise wire.StreamFault(wire.PROTOCOL_ERROR)
        stream.ended = True
        assert stream.taker is not None  # noqa: S101  (_open)
        stream.taker.take(b"", True)

    def _window_update(self, id: int, payload: bytes) -> None:
        more = self.peer.more(payload)
        if id == 0:
            self.peer.widen(more)
            for stream in [stream for stream in self._streams.values() if stream.waiting]:
                self.pump(stream)
            return
        found = self._streams.get(id)
        if found is None:
            self._need_known(id)
            return
        if more == 0:
            raise wire.StreamFault(wire.PROTOCOL_ERROR)
        found.peer_room += more
        if found.peer_room > wire.HALF:
            raise wire.StreamFault(wire.FLOW_CONTROL_ERROR)
        self.pump(found)

    def _settings(self, flags: int, id: int, payload: bytes) -> None:
        wire.need(id == 0, wire.PROTOCOL_ERROR)
        if flags & wire.ACK:
            wire.need(not payload and self._set_up, wire.FRAME_SIZE_ERROR)
            return
        wire.need(len(payload) % 6 == 0, wire.FRAME_SIZE_ERROR)
        self._tire(1 + len(payload) // 60)
        self._set_up = True
        more = self.peer.settings(payload)
        for stream in list(self._streams.values()) if more else ():
            stream.peer_room += more
            wire.need(stream.peer_room <= wire.HALF, wire.FLOW_CONTROL_ERROR)
            self.pump(stream)
        self.write(wire.frame(wire.SETTINGS, wire.ACK, 0))

    def _ping(self, flags: int, id: int, payload: bytes) -> None:
        wire.need(id == 0, wire.PROTOCOL_ERROR)
        wire.need(len(payload) == 8, wire.FRAME_SIZE_ERROR)
        if not flags & wire.ACK:
            self._tire(1)
            self.write(wire.frame(wire.PING, wire.ACK, 0, payload))
        elif payload == _LAST_PING and not self._closing:
            self._closing = True  # what the client sent before it knew has arrived
            self.write(wire.go_away(self._last, wire.NO_ERROR))
            self._close_if_done()

    def _reset(self, id: int, payload: bytes) -> None:
        wire.need(len(payload) == 4, wire.FRAME_SIZE_ERROR)
        self._need_known(id)
        if id in self._streams:
            self._tire(5)  # to open streams only to end them is an attack (CVE-2023-44487)
            self._drop(id)
        else:
            self._tire(1)

    def _gone_away(self, id: int, payload: bytes) -> None:
        wire.need(id == 0 and len(payload) >= 8, wire.PROTOCOL_ERROR)
        self._closing = True
        self._close_if_done()

    def _need_known(self, id: int) -> None:
        wire.need(0 < id <= self._last and id % 2 == 1, wire.PROTOCOL_ERROR)

    def _tire(self, cost: int) -> None:
        self._patience -= cost
        if self._patience < 0:
            raise wire.Fault(wire.ENHANCE_YOUR_CALM, "too much that brings nothing")

    # --------------------------------------------------------------------------------------------- sending

    def has(self, stream: Stream) -> bool:
        """Whether a stream is open."""
        return self._streams.get(stream.id) is stream

    def room(self, stream: Stream, size: int) -> bool:
        """Whether an answer of so many bytes can go out in one piece now."""
        return size <= min(self.peer.frame, self.peer.room, stream.peer_room) and self.peer.plain

    def write(self, data: bytes) -> None:
        """Send bytes, together with all else of this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def finish(self, stream: Stream, last: bytes, size: int = 0) -> None:
        """Send the last frames of a stream, in which so many bytes are data, and end it."""
        self.peer.room -= size
        self.write(last if stream.ended else last + wire.reset(stream.id, wire.NO_ERROR))
        self._patience = min(PATIENCE, self._patience + 10)
        self._held -= stream.held
        del self._streams[stream.id]
        self._since = self._loop.time()
        if self._closing:
            self._close_if_done()

    def pump(self, stream: Stream) -> None:
        """Send what waits, as far as there is room; and then the trailers."""
        if self._streams.get(stream.id) is not stream:
            return
        waiting = stream.waiting
        while waiting:
            most = min(self.peer.room, stream.peer_room, self.peer.frame)
            if most <= 0:
                return
            piece = waiting.popleft()
            if len(piece) > most:
                waiting.appendleft(piece[most:])
                piece = piece[:most]
            self.peer.room -= len(piece)
            stream.peer_room -= len(piece)
            stream.since = self._loop.time()
            self.write(wire.frame(wire.DATA, 0, stream.id, piece))
        if stream.tail is not None:
            flags = wire.END_HEADERS | wire.END_STREAM
            self.finish(stream, wire.frame(wire.HEADERS, flags, stream.id, stream.tail))

    def allow_more(self, stream: Stream) -> None:
        """Let the caller send more on a stream, when he sent half of what he might."""
        if stream.owed >= STREAM_WINDOW // 2 and not stream.stalled and self.has(stream):
            self.write(wire.window_update(stream.id, stream.owed))
            stream.room, stream.owed = stream.room + stream.owed, 0

    def used(self, stream: Stream, size: int) -> None:
        """Say that so many bytes of a body are kept no longer."""
        if self.has(stream):
            stream.held -= size
            self._held -= size

    def _flush(self) -> None:
        if self._transport is not None and self._out:
            self._transport.write(b"".join(self._out))
        self._out = []

    # ------------------------------------------------------------------------------------------------- end

    def drain(self) -> None:
        """Take nothing new, after what the client sent before it heard of that."""
        if self._transport is not None and not self._closing:
            self.write(wire.go_away(wire.HALF, wire.NO_ERROR) + wire.frame(wire.PING, 0, 0, _LAST_PING))
            for stream in list(self._streams.values()):
                if stream.taker is not None:
                    stream.taker.leave()

    def look(self, now: float) -> None:
        """Hang up, or end a stream, when what is awaited takes longer than it may."""
        self._patience = min(PATIENCE, self._patience + PATIENCE // 10)
        if self._blocked_since is not None:
            if now - self._blocked_since > UNREAD_SECONDS:
                self.abort()
        elif not self._set_up or self._block is not None:
            if now - self._since > HEADER_SECONDS:
                self.abort()
        elif not self._streams:
            if now - self._since > IDLE_SECONDS:
                self._fail(wire.Fault(wire.NO_ERROR, "idle"))
        else:
            self._look_at_streams(now)

    def _look_at_streams(self, now: float) -> None:
        for stream in list(self._streams.values()):
            quiet = now - stream.since
            if stream.ended:
                late = stream.waiting and quiet > UNREAD_SECONDS
            elif stream.held:
                late = now - stream.begun_body > BODY_SECONDS + stream.held / BODY_RATE
            else:
                late = quiet > (IDLE_SECONDS if stream.lasting else UNREAD_SECONDS)
            if late:
                self.write(wire.reset(stream.id, wire.CANCEL))
                self._drop(stream.id)

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def _drop(self, id: int) -> None:
        stream = self._streams.pop(id, None)
        if stream is not None:
            self._held -= stream.held
            if stream.taker is not None:
                stream.taker.gone()
        self._close_if_done()

    def _fail(self, fault: wire.Fault) -> None:
        self.write(wire.go_away(self._last, fault.code, fault.message))
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._rest = b""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            if stream.taker is not None:
                stream.taker.gone()

    def _close_if_done(self) -> None:
        if self._closing and not self._streams and self._transport is not None and not self._ended:
            self._ended = True
            self._flush()
            self._transport.close()
