"""Unix sockets of a process in its own folder, which only this user can enter: where it listens, and how it is reached."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_BACKLOG = 64


def connect(path: Path, *, blocking: bool = True) -> socket.socket:
    """Connect to a Unix socket whose path may be longer than the 107 bytes that an address holds. Raises `OSError`."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(blocking)
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        except BaseException:
            connection.close()
            raise
        return connection
    finally:
        os.close(folder)


@contextlib.contextmanager
def listening(name: str) -> Iterator[socket.socket]:
    """Listen on a socket in the working folder; its short relative name fits an address wherever the folder is."""
    Path(name).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        mask = os.umask(0o177)
        try:
            made.bind(name)
        finally:
            os.umask(mask)
        made.listen(_BACKLOG)
        try:
            yield made
        finally:
            Path(name).unlink(missing_ok=True)
