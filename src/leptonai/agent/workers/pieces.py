"""Answers in pieces, in a worker: many at once, each made in a thread of its own, at the pace of its reader.

::

    plane -> worker   {"op": "begin", "id", "arrays": one row}   {"op": "more", "id", "count"}   {"op": "cancel", "id"}
    worker -> plane   {"op": "piece", "id"} + its JSON           {"op": "end", "id"}             {"op": "failed", "id", "error"}

A plane takes `WINDOW` pieces ahead of what its client has read; the generator waits at its `yield` until there is room, and is
closed there when the client is gone.
"""

import contextlib
import selectors
import socket
import threading
import time
import traceback
from pathlib import Path
from typing import Any, cast

import orjson

from leptonai.agent.workers.computing import Computing, said
from leptonai.core.errors import Busy, Corrupt, LeptonError
from leptonai.serving import arrays, frames
from leptonai.serving.pulse import Pulse
from leptonai.serving.workers import STREAM

WINDOW = 32
AT_ONCE = 256
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class Pieces(threading.Thread):
    """Takes what planes ask for over one socket."""

    def __init__(self, listener: socket.socket, computing: Computing, pulse: Pulse):
        super().__init__(name="pieces", daemon=True)
        self._listener = listener
        self.computing = computing
        self.pulse = pulse
        self.at_work: dict[int, float] = {}  # when what each thread makes began
        self.running = 0
        self._callers = 0
        self._leaving = False

    def run(self) -> None:
        """Serve until the process ends."""
        with selectors.DefaultSelector() as watched:
            watched.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in watched.select():
                    if key.fileobj is self._listener:
                        try:
                            made = self._listener.accept()[0]
                        except OSError:  # see `leave`
                            watched.unregister(self._listener)
                            self._listener.close()
                            self._leaving = True
                            continue
                        self._callers += 1
                        watched.register(made, selectors.EVENT_READ, Caller(self, made))
                        continue
                    caller = cast(Caller, key.data)
                    if not caller.hear():
                        watched.unregister(key.fileobj)
                        caller.close()
                        self._callers -= 1

    def leave(self) -> None:
        """Take no new callers. From another thread: the one that waits for them is woken by the end of their socket."""
        Path(STREAM).unlink(missing_ok=True)
        self._listener.shutdown(socket.SHUT_RDWR)

    @property
    def left(self) -> bool:
        """Whether all callers hung up after `leave`."""
        return self._leaving and not self._callers

    def tell(self) -> None:
        """Say since when the slowest piece is being made, so that one that hangs is noticed."""
        self.pulse.pieces(min(list(self.at_work.values()), default=None), self.running)


class Caller:
    """One plane, and what is being made for it."""

    def __init__(self, of: Pieces, connection: socket.socket):
        self._of = of
        self._connection = connection
        self._lock = threading.Lock()
        self._making: dict[int, Making] = {}

    def hear(self) -> bool:
        """Take one message; False when the plane has hung up."""
        try:
            frame = frames.receive(self._connection)
            if frame is None:
                return False
            id, op = int(frame.header["id"]), frame.header["op"]
            if op == "begin":
                if self._of.running >= AT_ONCE:
                    busy = Busy(f"{AT_ONCE} answers are being made in pieces already: try again", retry_after=1.0)
                    self.send({"op": "failed", "id": id, "error": busy.to_dict()})
                    return True
                self._of.running += 1
                self._making[id] = Making(self, self._of, id, arrays.unpack(frame))
                self._making[id].start()
            elif (found := self._making.get(id)) is not None:
                if op == "more":
                    found.more(int(frame.header["count"]))
                else:
                    found.cancel()
        except (OSError, Corrupt, KeyError, ValueError, TypeError):
            return False
        return True

    def send(self, header: dict[str, Any], *parts: bytes) -> None:
        """Send a message, from any thread; when the plane is gone, to nobody."""
        with self._lock, contextlib.suppress(OSError):
            for piece in frames.quick(header, parts):
                self._connection.sendall(piece)

    def forget(self, id: int) -> None:
        """Take note that an answer ended."""
        self._making.pop(id, None)
        self._of.running -= 1

    def close(self) -> None:
        """Let nothing more be made for it."""
        for making in list(self._making.values()):
            making.cancel()
        self._connection.close()


class Making(threading.Thread):
    """One answer."""

    def __init__(self, caller: Caller, of: Pieces, id: int, inputs: dict[str, Any]):
        super().__init__(name=f"piece {id}", daemon=True)
        self._caller = caller
        self._of = of
        self._id = id
        self._inputs = inputs
        self._room = threading.Semaphore(WINDOW)
        self._cancelled = False

    def more(self, count: int) -> None:
        """Take note that so many pieces were read."""
        self._room.release(max(1, min(count, WINDOW)))

    def cancel(self) -> None:
        """Make no more; the generator is closed where it stands."""
        self._cancelled = True
        self._room.release()

    def run(self) -> None:
        """Make pieces, and send them."""
        last: dict[str, Any] = {"op": "end", "id": self._id}
        made = None
        try:
            made = self._of.computing.stream(self._inputs)
            while not self._cancelled:
                self._at(time.monotonic())
                piece = next(made, self)
                self._at(None)
                if piece is self:
                    break
                self._room.acquire()
                if self._cancelled:
                    break
                self._caller.send({"op": "piece", "id": self._id}, orjson.dumps(piece, option=_JSON))
        except Exception as error:  # noqa: BLE001 - it is a user's code
            last = {"op": "failed", "id": self._id, "error": self._said(error)}
        finally:
            try:
                if made is not None and hasattr(made, "close"):
                    self._at(time.monotonic())
                    made.close()
            except Exception:  # noqa: BLE001 - it is a user's code
                traceback.print_exc()
            self._at(None)
            self._caller.forget(self._id)
            self._caller.send(last)

    def _said(self, error: Exception) -> dict[str, Any]:
        if not isinstance(error, LeptonError):
            traceback.print_exc()
        return said(error, "its code failed").to_dict()

    def _at(self, began: float | None) -> None:
        if began is None:
            self._of.at_work.pop(self.ident or 0, None)
            self._of.pulse.did()
        else:
            self._of.at_work[self.ident or 0] = began
        self._of.tell()
