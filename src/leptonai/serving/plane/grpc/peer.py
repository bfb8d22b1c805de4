"""What a client lets us send on its connection, as it says in its settings and window updates."""

from leptonai.serving.plane.grpc import wire


class Peer:
    """The client's side of the connection. `room`: bytes of data that all streams together may send now."""

    def __init__(self) -> None:
        self.room = 65535
        self.window = 65535  # of a new stream
        self.frame = 16384  # bytes of data in one frame
        self._update = b""

    @property
    def plain(self) -> bool:
        """Whether headers need nothing before them."""
        return not self._update

    def opening(self, block: bytes) -> bytes:
        """Return the first headers of an answer, with what the client's HPACK has to be told before."""
        update, self._update = self._update, b""
        return update + block

    def settings(self, payload: bytes) -> int:
        """Take settings, and return by how much the windows of open streams change. Raises `Fault`."""
        before = self.window
        for name, value in wire.SETTING.iter_unpack(payload):
            if name == wire.INITIAL_WINDOW_SIZE:
                wire.need(value <= wire.HALF, wire.FLOW_CONTROL_ERROR)
                self.window = value
            elif name == wire.MAX_FRAME_SIZE:
                wire.need(16384 <= value < 2**24, wire.PROTOCOL_ERROR)
                self.frame = value
            elif name == wire.ENABLE_PUSH:
                wire.need(value <= 1, wire.PROTOCOL_ERROR)
            elif name == wire.HEADER_TABLE_SIZE and value < 4096:
                self._update = b"\x20"  # our table has no room from now on; it never held anything
        return self.window - before

    def more(self, payload: bytes) -> int:
        """Return how much a window update gives. Raises `Fault`."""
        wire.need(len(payload) == 4, wire.FRAME_SIZE_ERROR)
        return int(wire.WORD.unpack(payload)[0] & wire.HALF)

    def widen(self, more: int) -> None:
        """Take a window update of the whole connection. Raises `Fault`."""
        wire.need(more > 0, wire.PROTOCOL_ERROR)
        self.room += more
        wire.need(self.room <= wire.HALF, wire.FLOW_CONTROL_ERROR)
