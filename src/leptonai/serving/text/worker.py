"""The process of a model of text: given its files once, it answers what the planes ask over a Unix socket.

::

    agent -> worker   {"op": "load", "task", "names", "slots", "context", "threads", "waiting"}, then the files, as descriptors
    worker -> agent   {"op": "loaded", "facts"} or {"op": "failed", "error"}
    plane -> worker   {"op": "ask", "id", "asked", "seconds"}, {"op": "cancel", "id"}
    worker -> plane   {"op": "piece", "id", "said"} + bytes, any number; then {"op": "done", "id"} or {"op": "failed", "id", "error"}

The files are memory that the agent shares, never plaintext on a disk. As many requests as the model has slots are computed at
once, and so many wait behind them; the next one is told to come back.
"""

import queue
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leptonai.core import plugins
from leptonai.core.errors import Busy, Corrupt, Invalid, LeptonError, Unavailable
from leptonai.core.runtimes import LoadedText
from leptonai.serving import frames
from leptonai.serving.pulse import Pulse
from leptonai.serving.sockets import listening
from leptonai.serving.text.beat import Beat
from leptonai.serving.text.kinds import RUNTIMES

LOAD = "load.sock"
ANSWER = "answer.sock"


def main(payload: dict[str, Any]) -> None:  # noqa: ARG001 - what an executor gives
    """Take one model, then answer until the process is ended."""
    with listening(LOAD) as first, first.accept()[0] as giver:
        frame = frames.receive(giver)
        if frame is None:
            return
        try:
            loaded = load(giver, frame.header)
        except Exception as error:  # noqa: BLE001 - a file of a stranger was read
            traceback.print_exc()
            frames.send(giver, {"op": "failed", "error": told(error)})
            return
        with listening(ANSWER) as second:
            frames.send(giver, {"op": "loaded", "facts": dict(loaded.facts)})
            desk = Desk(loaded, int(frame.header["waiting"]), Beat(Pulse(Path())))
            while True:
                threading.Thread(target=Line(second.accept()[0], desk).run, daemon=True).start()


def load(giver: socket.socket, header: Mapping[str, Any]) -> LoadedText:
    """Load the model whose files come as descriptors."""
    names = header["names"]
    _, descriptors, _, _ = socket.recv_fds(giver, 1, len(names))
    if len(descriptors) != len(names):
        raise Corrupt("not every file of the model arrived")
    files = {name: Path(f"/proc/self/fd/{fd}") for name, fd in zip(names, descriptors, strict=True)}
    runtime = plugins.text_runtime(RUNTIMES[header["task"]])
    return runtime.load(files, slots=header["slots"], context=header["context"], threads=header["threads"])


class Asking:
    """One request."""

    def __init__(self, line: "Line", id: int, asked: Mapping[str, Any], seconds: float):
        self.line = line
        self.id = id
        self.asked = asked
        self.seconds = seconds
        self.until = time.monotonic() + seconds
        self.cancelled = False

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self.until

    def answer(self, loaded: LoadedText, came: Callable[[], None]) -> None:
        """Compute it, and say how that ended; `came` is called at each piece."""
        if self.cancelled:
            return

        def piece(said: Mapping[str, Any], data: bytes) -> bool:
            came()
            return (
                not self.cancelled
                and not self.late
                and self.line.send({"op": "piece", "id": self.id, "said": said}, data)
            )

        try:
            if not self.late:
                loaded.answer(self.asked, piece)
            if self.late:
                raise Unavailable(f"the request took longer than its {self.seconds:g} s", limit="deadline")
            self.line.send({"op": "done", "id": self.id})
        except Exception as error:  # noqa: BLE001 - one request that fails is no reason to fail another
            if not isinstance(error, LeptonError):
                traceback.print_exc()
            self.line.send({"op": "failed", "id": self.id, "error": told(error)})


class Desk:
    """Where requests of all planes wait for one of the model's slots."""

    def __init__(self, loaded: LoadedText, waiting: int, beat: Beat):
        self._loaded = loaded
        self._beat = beat
        self._most = loaded.slots + waiting
        self._inside = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Asking] = queue.SimpleQueue()
        for number in range(loaded.slots):
            threading.Thread(target=self._run, name=f"slot-{number}", daemon=True).start()

    def take(self, asking: Asking) -> None:
        """Queue a request. Raises `Busy` when too many wait."""
        with self._lock:
            if self._inside >= self._most:
                raise Busy(f"{self._most} requests are being answered or wait: try again", retry_after=2.0)
            self._inside += 1
        self._queue.put(asking)

    def _run(self) -> None:
        while True:
            asking = self._queue.get()
            self._beat.begins()
            try:
                asking.answer(self._loaded, self._beat.came)
            finally:
                self._beat.ends()
                with self._lock:
                    self._inside -= 1


class Line:
    """The connection to one plane."""

    def __init__(self, connection: socket.socket, desk: Desk):
        self._connection = connection
        self._desk = desk
        self._lock = threading.Lock()
        self._open: dict[int, Asking] = {}

    def run(self) -> None:
        """Read what the plane asks until it hangs up; what it asked for is not computed any further then."""
        try:
            while (frame := frames.receive(self._connection)) is not None:
                self._take(frame.header)
        except (OSError, Corrupt):
            pass
        finally:
            for asking in tuple(self._open.values()):
                asking.cancelled = True
            self._connection.close()

    def send(self, header: Mapping[str, Any], data: bytes = b"") -> bool:
        """Send a message; False when the plane is gone."""
        if header["op"] != "piece":
            self._open.pop(header["id"], None)
        try:
            with self._lock:
                frames.send(self._connection, dict(header), [data] if data else [])
        except OSError:
            return False
        return True

    def _take(self, header: Mapping[str, Any]) -> None:
        id = header["id"]
        if header["op"] == "cancel":
            if asking := self._open.pop(id, None):
                asking.cancelled = True
            return
        asking = self._open[id] = Asking(self, id, header["asked"], float(header["seconds"]))
        try:
            self._desk.take(asking)
        except Busy as error:
            self.send({"op": "failed", "id": id, "error": error.to_dict()})


def told(error: Exception) -> dict[str, Any]:
    """Return an error as it travels; a caller never sees a traceback."""
    if isinstance(error, LeptonError):
        return error.to_dict()
    return Invalid(f"the model failed: {type(error).__name__}").to_dict()
