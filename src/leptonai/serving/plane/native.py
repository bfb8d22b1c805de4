"""A model that has no ONNX file: its framework computes it in a process of its own, reached over a Unix socket.

The arrays go over as raw bytes behind a JSON header; text goes in the header. When the process dies its agent starts
another one under the same path, so a request that meets the gap waits for it and is sent once more.
"""

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leptonai.core.errors import Unavailable, from_dict
from leptonai.core.nouns import Signature
from leptonai.serving import frames

WAIT_SECONDS = 20.0


class NativeModel:
    """A `LoadedModel` on the other side of a socket. One call at a time."""

    waits = True  # for another process: never to be computed on an event loop

    def __init__(self, path: str, signature: Signature):
        self._path = path
        self._outputs = [spec.name for spec in signature.outputs]
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._closed = False
        self.alive = True  # whether the last try to reach the process succeeded

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        """Compute one batch over there. Raises what went wrong there, or `Unavailable` when nobody is there for long."""
        with self._lock:
            for attempt in (1, 2):
                try:
                    found = self._ask(inputs)
                    break
                except OSError as error:
                    self._drop()
                    if attempt == 2:
                        raise Unavailable("the process of the model died twice while it computed this batch") from error
        return {name: found[name] for name in outputs or self._outputs}

    def close(self) -> None:
        """Hang up; the agent ends the process."""
        self._closed = True
        with self._lock:
            self._drop()

    def _ask(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._connected()
        header, parts = pack_arrays(inputs)
        frames.send(connection, {"op": "predict", **header}, parts)
        frame = frames.receive(connection)
        if frame is None:
            raise ConnectionResetError("the process of the model went away")
        if frame.header["op"] == "failed":
            raise from_dict(frame.header["error"])
        return unpack_arrays(frame)

    def _connected(self) -> socket.socket:
        until = time.monotonic() + WAIT_SECONDS
        while self._connection is None:
            try:
                self._connection = connect(Path(self._path))
            except OSError as error:
                self.alive = False
                if self._closed or time.monotonic() > until:
                    raise Unavailable(
                        "the process of the model does not answer; it is being started again", retry_after=5.0
                    ) from error
                time.sleep(0.05)
        self.alive = True
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def connect(path: Path) -> socket.socket:
    """Connect to a Unix socket whose path may be longer than the 107 bytes that an address holds. Raises `OSError`."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(folder)


def pack_arrays(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    """Return header and parts for arrays of numbers and of text."""
    said: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for name, found in arrays.items():
        about = {"name": name, "dtype": found.dtype.str, "shape": list(found.shape)}
        if found.dtype == np.object_:
            said.append({**about, "dtype": "text", "values": found.ravel().tolist()})
        else:
            said.append(about)
            parts.append(np.ascontiguousarray(found).tobytes())
    return {"arrays": said}, parts


def unpack_arrays(frame: frames.Frame) -> dict[str, Any]:
    """Return the arrays of a message. Arrays of numbers are read-only views of its bytes."""
    parts = iter(frame.parts)
    arrays = {}
    for about in frame.header["arrays"]:
        if about["dtype"] == "text":
            made = np.empty(len(about["values"]), object)
            made[:] = about["values"]
        else:
            made = np.frombuffer(next(parts), np.dtype(about["dtype"]))
        arrays[about["name"]] = made.reshape(about["shape"])
    return arrays
