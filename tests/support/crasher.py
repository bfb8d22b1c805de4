"""Writes blobs and dies at the n-th call to the operating system; run as a process of its own by the crash tests.

    python -m tests.support.crasher FOLDER

For n = 1, 2, 3, … a forked child writes blobs to FOLDER and is killed (SIGKILL) just before its n-th call; it notes each
acknowledged blob in FOLDER/../<n>.acked. It ends with the first n that no child reaches.
"""

import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leptonai.adapters.stores.local import LocalStore
from leptonai.testing.store import some_bytes

CALLS = (
    (os, "open"),
    (os, "write"),
    (os, "fsync"),
    (os, "replace"),
    (os, "close"),
    (fcntl, "flock"),
    (os, "mkdir"),
    (os, "unlink"),
)


def contents(at: int) -> list[list[bytes]]:
    """Return what the `at`-th child writes: new blobs, and one that is there already."""
    return [[b"new %d" % at], [some_bytes(300_000, at), b"tail"], [b"the same"], [b""]]


def count(at: int, then: Callable[[str], Any]) -> list[str]:
    """Make the `at`-th of `CALLS` call `then`; return the growing list of the calls made."""
    made: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == at:
                then(name)
            return real(*args, **options)

        return call

    for module, name in CALLS:
        setattr(module, name, wrapped(name, getattr(module, name)))
    return made


def child(folder: Path, at: int) -> None:
    acked = (folder.parent / f"{at}.acked").open("a", buffering=1)
    count(at, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    store = LocalStore(folder)
    for chunks in contents(at):
        acked.write(json.dumps([store.write(chunks).id, len(b"".join(chunks))]) + "\n")


def main(folder: Path) -> None:
    LocalStore(folder)  # its 257 folders exist ahead: else nearly every call would be mkdir
    at = 1
    while True:
        pid = os.fork()
        if pid == 0:
            child(folder, at)
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            return
        at += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
