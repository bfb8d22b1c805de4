"""Files that came with a class, in memory that nobody can change: read-only for everybody, shared by all workers, gone with the
processes. No plaintext touches a disk.
"""

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from leptonai.core.errors import Invalid

_PIECE = 1 << 20
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def seal(source: BinaryIO, name: str) -> int:
    """Copy a file into sealed memory, and return its descriptor, which is the caller's to close."""
    number = os.memfd_create(name[-200:], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        while piece := source.read(_PIECE):
            view = memoryview(piece)
            while view:
                view = view[os.write(number, view) :]
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(number)
        raise
    return number


def lay(folder: Path, files: Mapping[str, int]) -> Path:
    """Make a folder in which each name leads to a descriptor of this process. Raises `Invalid` on a name that leads out of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name, number in files.items():
        check_path(name)
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.symlink_to(f"/proc/{os.getpid()}/fd/{number}")
    return folder


def check_path(name: str) -> str:
    """Return the name of a file inside a folder. Raises `Invalid` when it leads out of it."""
    parts = name.split("/")
    if not name or len(name) > 500 or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise Invalid(f"{name[:120]!r} is no name of a file below a folder, such as 'weights/model.bin'")
    return name
