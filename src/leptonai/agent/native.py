"""A model that has no ONNX file, computed by its framework in a process of its own. Only here is its code loaded.

The process listens on two Unix sockets in its folder, which only this user can enter: on the first it is given the model,
on the second, which is there once the model is loaded, it answers. Messages are those of `serving.frames`.
"""

import contextlib
import json
import os
import selectors
import socket
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from leptonai.core.errors import Corrupt, Invalid, LeptonError
from leptonai.core.nouns import Model, Signature
from leptonai.core.stages import load
from leptonai.serving import frames
from leptonai.serving.plane.native import pack_arrays, unpack_arrays

LOAD = "load.sock"
ANSWER = "answer.sock"
FROM_FILES = "leptonai.training.predictor:from_files"  # (code, weights, fitted) -> Predictor


def main(payload: dict[str, Any]) -> None:  # noqa: ARG001 - what an executor gives
    """Take one model, then answer until the process is ended. `payload` is empty: the model comes over the socket."""
    with listening(LOAD) as first, first.accept()[0] as giver:
        frame = frames.receive(giver)
        if frame is None:
            return
        model = Model.model_validate(frame.header["model"])
        try:
            predictor = load(FROM_FILES)(frame.parts[0], frame.parts[1], json.loads(frame.parts[2]))
        except Exception as error:  # noqa: BLE001 - it is a user's code that was loaded
            traceback.print_exc()
            frames.send(giver, {"op": "failed", "error": _said(error)})
            return
        with listening(ANSWER) as second:
            frames.send(giver, {"op": "loaded"})
            answer_all(second, predictor, model.signature)


def answer_all(listener: socket.socket, predictor: Any, signature: Signature) -> None:
    """Compute what any of the callers sends (each process of the plane is one), one batch after the other."""
    with selectors.DefaultSelector() as watched:
        watched.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in watched.select():
                if key.fileobj is listener:
                    watched.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                caller = cast(socket.socket, key.fileobj)
                try:
                    stays = answer(caller, predictor, signature)
                except (OSError, Corrupt):
                    stays = False
                if not stays:
                    watched.unregister(caller)
                    caller.close()


def answer(caller: socket.socket, predictor: Any, signature: Signature) -> bool:
    """Compute the batch that a caller sends; False when he has hung up."""
    frame = frames.receive(caller)
    if frame is None:
        return False
    try:
        header, parts = pack_arrays(outputs(predictor.scores(unpack_arrays(frame)), signature))
        frames.send(caller, {"op": "done", **header}, parts)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - it is a user's code that computes
        traceback.print_exc()
        frames.send(caller, {"op": "failed", "error": _said(error)})
    return True


def outputs(scores: Any, signature: Signature) -> Mapping[str, Any]:
    """Return what the signature promises: label and probabilities, or the prediction."""
    found = np.asarray(scores, np.float32)
    if signature.task == "regression":
        shape = [len(found) if d == -1 and axis == 0 else d for axis, d in enumerate(signature.outputs[0].shape)]
        return {signature.outputs[0].name: found.reshape(shape)}
    if found.ndim == 1:  # of two classes, the probability of the second
        found = np.stack([1 - found, found], axis=1)
    first, second = signature.outputs
    classes = np.array(signature.classes, object if first.datatype == "BYTES" else np.int64)
    return {first.name: classes[found.argmax(axis=1)], second.name: found}


@contextlib.contextmanager
def listening(name: str) -> Any:
    """Listen on a socket in the working folder; its short relative name fits an address wherever the folder is."""
    Path(name).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        mask = os.umask(0o177)
        try:
            made.bind(name)
        finally:
            os.umask(mask)
        made.listen(8)
        try:
            yield made
        finally:
            Path(name).unlink(missing_ok=True)


def _said(error: Exception) -> dict[str, Any]:
    if isinstance(error, LeptonError):
        return error.to_dict()
    return Invalid(f"the model failed: {type(error).__name__}: {error}"[:500]).to_dict()
