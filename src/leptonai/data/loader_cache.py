"""Shards of a store that is far, kept near: encrypted as they are, within a limit, what was used least recently leaves first.

::

    <folder>/<id>         a blob; complete since the moment it has this name
    <folder>/.<id>.…      being fetched; swept when an hour old
    <folder>/lock         held by who makes room

A file is checked against its id when a process uses it first: a power cut may have left another one. Nothing is lost with the
folder, so it can be deleted at any time.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from leptonai.core import settings
from leptonai.core.errors import DiskFull, NotFound, Unavailable
from leptonai.core.ports import Store

_ID = re.compile(r"[0-9a-f]{64}")
_STALE_SECONDS = 3600.0


def near(store: Store, cache: Path | None) -> Any:
    """Return a store whose blobs are files of this machine; the one given where it is that already, or may keep nothing."""
    limit = int(settings.number("data_cache") * 2**20)
    if cache is None or limit <= 0 or hasattr(store, "path"):
        return store
    return NearStore(store, cache / "shards", limit)


class NearStore:
    """Blobs of `store` in a folder of this machine, at most `limit` bytes and the one at hand. Used by threads and processes."""

    def __init__(self, store: Store, folder: Path, limit: int):
        self._store = store
        self._folder = folder
        self._limit = limit
        self._checked: set[str] = set()
        self._fetching: dict[str, threading.Lock] = {}

    def open(self, id: str) -> BinaryIO:
        """Open a blob."""
        return self.path(id).open("rb")

    def path(self, id: str) -> Path:
        """Return where a blob lies, fetched if need be. Raises `NotFound`, `Corrupt`, `DiskFull`, `Unavailable`."""
        if not _ID.fullmatch(id):
            raise NotFound(f"there is no blob {id[:100]!r}")
        target = self._folder / id
        with self._fetching.setdefault(id, threading.Lock()):  # two threads need not fetch the same
            if not self._there(id, target):
                try:
                    self._fetch(id, target)
                except OSError as error:
                    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                    kind: Any = DiskFull if full else Unavailable
                    raise kind(
                        f"the folder {self._folder} for shards cannot be written: {error.strerror}; make room there, or set "
                        "LEPTONAI_DATA_CACHE=0"
                    ) from error
                self._checked.add(id)
        return target

    def _there(self, id: str, target: Path) -> bool:
        try:
            os.utime(target)  # the time of its last use
            if id in self._checked:
                return True
            with target.open("rb") as file:
                sound = hashlib.file_digest(file, "sha256").hexdigest() == id
        except OSError:
            return False
        if sound:
            self._checked.add(id)
        return sound

    def _fetch(self, id: str, target: Path) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temp = self._folder / f".{id}.{secrets.token_hex(4)}"
        try:
            with self._store.open(id) as source, temp.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            self._make_room(temp.stat().st_size)
            temp.replace(target)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise

    def _make_room(self, size: int) -> None:
        """Remove what was used least recently until `size` more bytes fit, and what was left half-fetched long ago."""
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = []
            for entry in os.scandir(self._folder):
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    if _ID.fullmatch(entry.name):
                        kept.append((about.st_mtime_ns, about.st_size, entry.path))
                    elif entry.name.startswith(".") and time.time() - about.st_mtime > _STALE_SECONDS:
                        Path(entry.path).unlink()
            room = self._limit - size - sum(size for _, size, _ in kept)
            for _, freed, path in sorted(kept):
                if room >= 0:
                    break
                Path(path).unlink(missing_ok=True)
                room += freed
