"""The serving plane as its agent holds it: a process, the line to it, and the socket that outlives it."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from leptonai.core import settings
from leptonai.core.errors import Corrupt, Invalid, Unavailable
from leptonai.core.nouns import Model
from leptonai.core.runtimes import Variant
from leptonai.serving import frames, seen
from leptonai.serving.seen import Seen
from leptonai.serving.served import told
from leptonai.serving.table import Line

STOP_SECONDS = 8.0
ANSWER_SECONDS = 300.0  # for a plane to load and warm one version
_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS)
ASIDE_SECONDS = 30.0  # for what it does at once


class Kept(NamedTuple):
    """Where the requests that are not answered yet are kept, see `serving.escrow`: its file, how many slots it has; and how
    often one address may ask: requests a second (0: as it likes), and at once.
    """

    file: int
    slots: int
    rate: float = 0.0
    burst: float = 1.0


class _Line:
    """One line to a plane: a question at a time, each answered within so many seconds."""

    def __init__(self, connection: socket.socket, seconds: float):
        connection.settimeout(seconds)
        self._socket = connection
        self._lock = threading.Lock()

    def ask(self, header: dict[str, Any], parts: Sequence[bytes]) -> frames.Frame | None:
        """Send a message and return the answer; None when the plane is gone. Raises `OSError`, `Corrupt`."""
        with self._lock:
            frames.send(self._socket, header, parts)
            return frames.receive(self._socket)

    def close(self) -> None:
        """Hang up; who asks just now is told that the plane is gone."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._socket.close()


class PlaneProcess:
    """A plane that runs, or that ran: after it died, make another one on the same socket."""

    def __init__(
        self,
        listening: socket.socket,
        log: Path,
        boards: Sequence[int] = (),
        slot: int = 0,
        grpc: socket.socket | None = None,
        kept: Kept | None = None,
    ):
        """`boards`: the memory on which those that share a port keep their counts, see `agent.planes`. `grpc`: what listens for
        gRPC, where that is on. `kept`: connections come over `line`, from `agent.door`; without it the process accepts them
        itself, and they die with it.
        """
        pairs = [socket.socketpair() for _ in range(3)]
        if kept is not None:
            pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.models: set[str] = set()  # ids of what it was given
        self.crews: dict[
            str, tuple[Sequence[int], int]
        ] = {}  # the workers of each and how many are wanted, as it was told
        self._closing = False  # it finishes what it accepted, and is asked nothing more
        numbers = (listening.fileno(), *(theirs.fileno() for _, theirs in pairs), *boards)
        command = ["-P", "-m", "leptonai.serving.plane", "--listen", str(numbers[0]), "--control", str(numbers[1])]
        command += ["--wants", str(numbers[3])]
        command += ["--aside", str(numbers[2]), "--logs", str(log.parent)]
        command += ["--slot", str(slot), *(f"--board={board}" for board in boards)]
        if grpc is not None:
            numbers = (*numbers, grpc.fileno())
            command += ["--grpc", str(grpc.fileno())]
        if kept is not None:
            numbers = (*numbers, kept.file)
            command += ["--door", str(pairs[3][1].fileno()), "--escrow", str(kept.file), "--slots", str(kept.slots)]
            command += ["--rate", str(kept.rate), "--burst", str(kept.burst)]
        environment = {"MALLOC_ARENA_MAX": "1", **settings.environment()}  # few threads compute: one pool serves them
        environment.pop(settings.SETTINGS["api_key"].variable, None)  # the plane asks the server nothing
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, *command],
                    pass_fds=numbers,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        except BaseException:
            for ours, _ in pairs:
                ours.close()
            raise
        finally:
            for _, theirs in pairs:
                theirs.close()
        self.wants = pairs[2][0]  # over which it asks for what is not in memory
        self._line = _Line(pairs[0][0], ANSWER_SECONDS)
        self.line = pairs[3][0] if kept is not None else None  # to the door
        self._aside = _Line(pairs[1][0], ASIDE_SECONDS)  # for what must not wait until a version is loaded

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def crashed(self) -> bool:
        """Whether it ended by a fault of its own, not because somebody ended it."""
        ended = self._process.poll()
        return ended is not None and -ended in _FAULTS

    def faulted(self) -> bool:
        """Wait until it is gone, which it is about to be, and say whether it crashed. From any thread."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return self.crashed

    def load(
        self,
        model: Model,
        files: Mapping[str, bytes],
        native: Path | None = None,
        way: Variant | None = None,
        workers: Sequence[int] | None = None,
    ) -> int:
        """Load and warm a version, or have a loaded one computed in another `way`; None: by the plain runtime. `workers`: the numbers
        of those that compute it over there; None: as many as the version says.

        Returns by how many bytes its memory grew. Raises `Invalid` with the reason why it cannot, `Unavailable` when the plane is gone.
        """
        header = {
            "op": "load",
            "model": told(model),
            "native": None if native is None else str(native),
            "workers": workers,
            "files": list(files),
            "way": None if way is None else asdict(way),
        }
        frame = self._ask(header, list(files.values()))
        self.crews.pop(model.id, None)
        self.models.add(model.id)
        return int(frame.header["bytes"])

    def route(self, table: Sequence[Line], models: Sequence[Model] = ()) -> None:
        """Switch to a table of services and the loaded versions that answer for them. Raises as `load` does.

        `models`: those of the lines that are absent.
        """
        self._ask({"op": "route", "table": [line.to_dict() for line in table], "models": _dumped(models)})
        self.models &= {model for line in table if not line.absent for model in line.models}  # it frees the others

    def change(
        self, lines: Sequence[Line], models: Sequence[Model] = (), drop: Sequence[str] = (), free: Sequence[str] = ()
    ) -> None:
        """Change the lines of some services, drop services, free models. Raises as `load` does, without waiting."""
        header = {"op": "change", "lines": [line.to_dict() for line in lines], "models": _dumped(models)}
        self._ask({**header, "drop": list(drop), "free": list(free)}, over=self._aside)

    def crew(self, model: str, workers: Sequence[int], wanted: int) -> None:
        """Say which workers compute a version, and how many are to. Raises as `load` does, without waiting."""
        if self.crews.get(model) != (workers, wanted):
            self._ask({"op": "crew", "model": model, "workers": workers, "wanted": wanted}, over=self._aside)
            self.crews[model] = (workers, wanted)

    def refuse(self, service: str, message: str) -> None:
        """Tell who waits for the model of a service why it cannot be loaded. Raises as `load` does, without waiting."""
        self._ask({"op": "refuse", "service": service, "message": message}, over=self._aside)

    def keys(self, table: Sequence[Sequence[Any]]) -> None:
        """Say which keys may call what: lines as `serving.plane.keys` reads them. Raises as `load` does, and does not wait
        for a version that is being loaded.
        """
        self._ask({"op": "keys", "table": [list(line) for line in table]}, over=self._aside)

    def watch(self, shares: Mapping[str, float]) -> None:
        """Say which share of each service's requests goes to the prediction log. Raises as `load` does, without waiting."""
        self._ask({"op": "watch", "shares": dict(shares)}, over=self._aside)

    def recent(self, service: str, limit: int = 256) -> list[Seen]:
        """Return the last requests of a service that it kept, newest last. Raises as `load` does, without waiting."""
        frame = self._ask({"op": "recent", "service": service, "limit": limit}, over=self._aside)
        return seen.unpack(frame.header["entries"], frame)

    def logged(self) -> tuple[list[Seen], int]:
        """Take what it has for the prediction log; and how many it had to drop since it runs. Raises as `recent` does."""
        frame = self._ask({"op": "logged"}, over=self._aside)
        return seen.unpack(frame.header["entries"], frame), int(frame.header["dropped"])

    def close(self) -> None:
        """Let it finish what it accepted, then end it."""
        self._closing = True
        self._hang_up()  # it ends when the line does
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it at once."""
        self._hang_up()
        self._process.kill()
        self._process.wait()

    def _hang_up(self) -> None:
        if self.line is not None:
            self.line.close()  # the door has a duplicate, and sees when the process is gone
        with contextlib.suppress(OSError):
            self.wants.shutdown(socket.SHUT_RDWR)  # whoever listens there, over a duplicate, sees the end
        self.wants.close()
        self._aside.close()
        self._line.close()

    def _ask(self, header: dict[str, Any], parts: Sequence[bytes] = (), over: "_Line | None" = None) -> frames.Frame:
        try:
            frame = (over or self._line).ask(header, parts)
        except (OSError, Corrupt) as error:
            if not self._closing:
                self._process.kill()  # one that hangs, or talks nonsense, is of no use
                self._process.wait()
            raise Unavailable("the serving plane went away") from error
        if frame is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)  # it is about to be gone; say so only when it is
            raise Unavailable("the serving plane went away")
        if frame.header["op"] == "failed":
            raise Invalid(frame.header["message"])
        return frame


def _dumped(models: Sequence[Model]) -> list[dict[str, Any]]:
    return [told(model) for model in models]
