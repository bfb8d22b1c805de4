"""A worker: a process that loads one version's code and answers batches. Only here is that code loaded.

The agent gives it the version over one socket and keeps that connection, so that each notices at once when the other ends; the
planes ask for batches over another, and for answers in pieces over a third, see `serving.workers`.
"""

import contextlib
import os
import selectors
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, cast

from leptonai.agent.workers.computing import LOADING, Computing, said
from leptonai.agent.workers.open import open_computing
from leptonai.agent.workers.pieces import Pieces
from leptonai.core.errors import Corrupt, LeptonError
from leptonai.core.nouns import Model
from leptonai.serving import arrays, frames, sealed
from leptonai.serving.pulse import Pulse
from leptonai.serving.sockets import listening
from leptonai.serving.workers import ANSWER, LOAD, STREAM, Work

BEAT_SECONDS = 1.0
PEER_SECONDS = 30.0  # for a plane to go on in the middle of a message


def main(payload: dict[str, Any]) -> None:  # noqa: ARG001 - what an executor gives
    """Take one version, then answer until the process is ended. `payload` is empty: the version comes over the socket."""
    with listening(LOAD) as first, first.accept()[0] as giver:
        frame = frames.receive(giver)
        if frame is None:
            return
        files = _files(giver, frame.header["files"])
        model = Model.model_validate(frame.header["model"])
        work = Work.of(model)
        pulse = Pulse(Path())
        _threads(work.threads)
        try:
            computing = open_computing(model, dict(zip(frame.header["parts"], frame.parts, strict=True)), files)
        except BaseException as error:  # noqa: BLE001 - it is a user's code that was loaded
            traceback.print_exc()
            frames.send(giver, {"op": "failed", "error": said(error, LOADING).to_dict()})
            return
        del frame
        with contextlib.ExitStack() as open:
            if work.streams:
                pieces = Pieces(open.enter_context(listening(STREAM)), computing, pulse)
                pieces.start()
            second = open.enter_context(listening(ANSWER))
            frames.send(giver, {"op": "loaded"})
            Desk(second, giver, computing, pulse).serve()
        os._exit(0)  # the agent is gone, and a stream may be in the middle of a piece


class Desk:
    """Computes what the planes ask for, one batch after the other, until the agent hangs up."""

    def __init__(self, listener: socket.socket, giver: socket.socket, computing: Computing, pulse: Pulse):
        self._listener = listener
        self._giver = giver
        self._computing = computing
        self._pulse = pulse
        self._buffer = bytearray(frames.SMALL)

    def serve(self) -> None:
        """Return when the agent is gone."""
        with selectors.DefaultSelector() as watched:
            watched.register(self._listener, selectors.EVENT_READ)
            watched.register(self._giver, selectors.EVENT_READ)
            while True:
                found = watched.select(BEAT_SECONDS)
                waiting = len(found)
                self._pulse.rest(waiting)
                for key, _ in found:
                    if key.fileobj is self._giver:
                        return
                    if key.fileobj is self._listener:
                        made = self._listener.accept()[0]
                        made.settimeout(PEER_SECONDS)
                        watched.register(made, selectors.EVENT_READ)
                        continue
                    caller = cast(socket.socket, key.fileobj)
                    try:
                        stays = self._answer(caller, waiting)
                    except (OSError, Corrupt):
                        stays = False
                    if not stays:
                        watched.unregister(caller)
                        caller.close()
                    waiting -= 1

    def _answer(self, caller: socket.socket, waiting: int) -> bool:
        """Compute the batch that a caller sends; False when he has hung up."""
        frame = frames.receive_alone(caller, self._buffer)
        if frame is None:
            return False
        id = frame.header.get("id", 0)
        self._pulse.work(waiting)
        try:
            header, parts = arrays.pack(self._computing.predict(arrays.unpack(frame)))
            message = frames.quick({"op": "done", "id": id, **header}, parts)
        except Exception as error:  # noqa: BLE001 - it is a user's code that computes
            if not isinstance(error, LeptonError):
                traceback.print_exc()
            message = frames.quick({"op": "failed", "id": id, "error": said(error, "its code failed").to_dict()})
        self._pulse.did()
        self._pulse.rest(waiting - 1)
        for piece in message:
            caller.sendall(piece)
        return True


def _files(giver: socket.socket, names: list[str]) -> Path:
    """Lay out the files that the agent sends as sealed memory."""
    sent = {}
    for name in names:
        _, numbers, _, _ = socket.recv_fds(giver, 1, 1)
        sent[name] = numbers[0]
    return sealed.lay(Path("files").absolute(), sent)


def _threads(count: int) -> None:
    """Let the libraries that are loaded compute with so many threads."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    with contextlib.suppress(ImportError):
        import threadpoolctl  # type: ignore[import-untyped]

        threadpoolctl.threadpool_limits(count)
