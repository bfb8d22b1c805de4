"""A worker: a process that loads one version's code and answers batches. Only here is that code loaded.

The agent gives it the version over one socket and keeps that connection, so that each notices at once when the other ends; the
planes ask for batches over another, and for answers in pieces over a third, see `serving.workers`. It has computed a batch of its
own before it listens there. One that the agent sends away takes no new callers, and ends when those it has have hung up.
"""

import contextlib
import os
import selectors
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, cast

from leptonai.agent.workers.computing import LOADING, Computing, said
from leptonai.agent.workers.open import open_computing
from leptonai.agent.workers.pieces import Pieces
from leptonai.core.errors import Corrupt, LeptonError
from leptonai.core.nouns import Model
from leptonai.core.stages import THREADS, load
from leptonai.serving import arrays, frames, sealed
from leptonai.serving.pulse import Pulse
from leptonai.serving.sockets import listening
from leptonai.serving.workers import ANSWER, LOAD, STREAM, Work

BEAT_SECONDS = 1.0
LEAVE_SECONDS = 0.05  # between two looks whether all callers are gone
PEER_SECONDS = 30.0  # for a plane to go on in the middle of a message


def main(payload: dict[str, Any]) -> None:  # noqa: ARG001 - what an executor gives
    """Take one version, then answer until the process is ended. `payload` is empty: the version comes over the socket."""
    with listening(LOAD) as first, first.accept()[0] as giver:
        frame = frames.receive(giver)
        if frame is None:
            return
        files = _files(giver, frame.header["files"])
        model = Model.model_validate(frame.header["model"])
        work = Work.of(model.lineage)
        pulse = Pulse(Path())
        _threads(work.threads)
        try:
            computing = open_computing(model, dict(zip(frame.header["parts"], frame.parts, strict=True)), files)
        except BaseException as error:  # noqa: BLE001 - it is a user's code that was loaded
            traceback.print_exc()
            frames.send(giver, {"op": "failed", "error": said(error, LOADING).to_dict()})
            return
        del frame
        if work.predicts:
            _warm(computing, model)
        with contextlib.ExitStack() as open:
            pieces = None
            if work.streams:
                pieces = Pieces(open.enter_context(listening(STREAM)), computing, pulse)
                pieces.start()
            second = open.enter_context(listening(ANSWER))
            frames.send(giver, {"op": "loaded"})
            Desk(second, giver, computing, pulse, pieces).serve()
        os._exit(0)  # the agent is gone, and a stream may be in the middle of a piece


def _warm(computing: Computing, model: Model) -> None:
    """Compute a batch that nobody asked for: the first one is slow in many libraries, and no caller is to wait for that."""
    with contextlib.suppress(
        Exception
    ):  # a user's code may refuse what was made up; its callers are told what is wrong
        computing.predict({spec.name: arrays.example(spec, 1) for spec in model.signature.inputs})


class Desk:
    """Computes what the planes ask for, one batch after the other, until the agent hangs up, or until all callers did after the
    agent sent it away.
    """

    def __init__(
        self,
        listener: socket.socket,
        giver: socket.socket,
        computing: Computing,
        pulse: Pulse,
        pieces: Pieces | None = None,
    ):
        self._listener = listener
        self._giver = giver
        self._computing = computing
        self._pulse = pulse
        self._pieces = pieces
        self._buffer = bytearray(frames.SMALL)
        self._callers = 0
        self._leaving = False

    def serve(self) -> None:
        """Return when the agent is gone, or when it is to leave and nobody calls any more."""
        with selectors.DefaultSelector() as watched:
            watched.register(self._listener, selectors.EVENT_READ)
            watched.register(self._giver, selectors.EVENT_READ)
            while not (self._leaving and not self._callers and (self._pieces is None or self._pieces.left)):
                found = watched.select(LEAVE_SECONDS if self._leaving else BEAT_SECONDS)
                waiting = len(found)
                self._pulse.rest(waiting)
                for key, _ in found:
                    if key.fileobj is self._giver:
                        if not self._told():
                            return
                        self._leave(watched)
                        break
                    if key.fileobj is self._listener:
                        made = self._listener.accept()[0]
                        made.settimeout(PEER_SECONDS)
                        watched.register(made, selectors.EVENT_READ)
                        self._callers += 1
                        continue
                    caller = cast(socket.socket, key.fileobj)
                    try:
                        stays = self._answer(caller, waiting)
                    except (OSError, Corrupt):
                        stays = False
                    if not stays:
                        watched.unregister(caller)
                        caller.close()
                        self._callers -= 1
                    waiting -= 1

    def _told(self) -> bool:
        """Take what the agent says, which can only be to leave; False when it is gone."""
        try:
            return frames.receive(self._giver) is not None
        except (OSError, Corrupt):
            return False

    def _leave(self, watched: selectors.BaseSelector) -> None:
        """Take no new callers: whoever connects from now on is refused, and goes to another worker."""
        self._leaving = True
        watched.unregister(self._listener)
        self._listener.close()
        Path(ANSWER).unlink(missing_ok=True)
        if self._pieces is not None:
            self._pieces.leave()

    def _answer(self, caller: socket.socket, waiting: int) -> bool:
        """Compute the batch that a caller sends; False when he has hung up."""
        frame = frames.receive_alone(caller, self._buffer)
        if frame is None:
            return False
        id = frame.header.get("id", 0)
        self._pulse.work(waiting)
        begun = time.perf_counter()
        try:
            header, parts = arrays.pack(self._computing.predict(arrays.unpack(frame)))
            took = time.perf_counter() - begun
            message = frames.quick({"op": "done", "id": id, "took": took, **header}, parts)
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
        load(THREADS)(count)
