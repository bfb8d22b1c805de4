"""Keeps blobs in a folder of this machine.

::

    <folder>/ab/cdef…     a blob whose id is abcdef…; complete since the moment it has this name
    <folder>/tmp/…        being written; locked while its writer lives, swept when an hour old and not locked

Plain files, not obstore's local store: that one does not fsync, and an acknowledged write must survive a power cut. A write
is: temporary file, fsync, rename, fsync of the folder. A failed fsync is never tried again on the same file, since the kernel
may have dropped the pages and would report success (https://wiki.postgresql.org/wiki/Fsync_Errors): the file is thrown away.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from leptonai.core.errors import Corrupt, DiskFull, Invalid, NotFound, Unavailable
from leptonai.core.ports import StoredBlob

TEMP_SECONDS = 3600.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FOLDERS = tuple(f"{i:02x}" for i in range(256))
_ID = re.compile(r"[0-9a-f]{64}")


def folder_of(url: str | Path) -> Path:
    """Return the folder that a store's URL (``file:///path``, or just a path) names. Raises `Invalid`."""
    text = str(url)
    if text.startswith("file:"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise Invalid(f"store URL {text!r} must be like file:///folder, with three slashes")
        text = unquote(parts.path)
    if not text:
        raise Invalid("the store's folder is an empty name: give a path, such as ~/.leptonai/blobs")
    return Path(text).expanduser().absolute()


def is_id(text: object) -> bool:
    """Whether `text` can be the id of a blob."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def check_id(id: str) -> str:
    """Return `id` if it can be that of a blob; before this it must never become a path. Raises `NotFound`."""
    if not is_id(id):
        raise NotFound(f"there is no blob {str(id)[:100]!r}: the id of a blob is 64 digits 0-9 a-f")
    return id


def no_blob(id: str, where: object) -> NotFound:
    """Return the error of a blob that is not there."""
    return NotFound(f"there is no blob {id} in {where}")


def damaged(id: str, where: object) -> Corrupt:
    """Return the error of a blob whose bytes do not have the digest that its id is."""
    return Corrupt(
        f"blob {id} in {where} is damaged or was altered, so nothing of it is used: restore it from a backup"
    )


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Give a descriptor of a folder, to lock it or to make its entries durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):  # nothing was written through it, so nothing can be lost
            os.close(fd)


def _sync_folder(path: Path) -> None:
    with _opened(path) as fd:
        os.fsync(fd)


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


class LocalStore:
    """A `Store` in a folder. Several processes may use the same folder at once."""

    def __init__(self, url: str | Path):
        self.folder = folder_of(url)
        self._temps = self.folder / "tmp"
        with self._told("prepared"):
            self._prepare()
            self._sweep()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn an error of the operating system into a sentence."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise DiskFull(f"the disk of {self.folder} is full: make room on it and try again") from error
            reason = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
            raise Unavailable(
                f"the store in {self.folder} cannot be {what}: {reason}; check the folder and its disk"
            ) from error

    def _prepare(self) -> None:
        """Make all folders ahead, and durable, so that a write has only its own folder to sync."""
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:
            _sync_folder(folder.parent)
        there = {entry.name for entry in os.scandir(self.folder)}
        for name in {*_FOLDERS, "tmp"} - there:
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self.folder)  # also where nothing is missing: who made them may have died before this line

    def _sweep(self) -> None:
        """Remove what writers that are gone left half-written. A live writer holds a lock, however slow it is."""
        for entry in list(os.scandir(self._temps)):
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime < TEMP_SECONDS:
                    continue
                fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Path(entry.path).unlink()
                finally:
                    os.close(fd)

    def _path(self, id: str) -> Path:
        return self.folder / id[:2] / id[2:]

    def write(self, chunks: Iterable[bytes]) -> StoredBlob:
        """Store the bytes; when this returns they are on disk for good. Raises `DiskFull`, `Unavailable`, and what `chunks` does."""
        temp = self._temps / secrets.token_hex(16)
        try:
            blob = self._fill(temp, chunks)
            with self._told("written"):
                self._publish(temp, blob.id)
        except BaseException:  # whatever went wrong, a half-written file is of no use
            with contextlib.suppress(OSError):
                temp.unlink()
            raise
        return blob

    def _fill(self, temp: Path, chunks: Iterable[bytes]) -> StoredBlob:
        """Write the temporary file, durable when this returns."""
        size, digest = 0, hashlib.sha256()
        with self._told("written"):
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with self._told("written"):
                fcntl.flock(fd, fcntl.LOCK_EX)
            for chunk in chunks:  # its own errors pass as they are: they are not the disk's
                view = memoryview(chunk).cast("B")
                size += len(view)
                digest.update(view)
                with self._told("written"):
                    _write_all(fd, view)
            with self._told("written"):
                os.fsync(fd)
        finally:
            with self._told("written"):
                os.close(fd)
        return StoredBlob(digest.hexdigest(), size)

    def _publish(self, temp: Path, id: str) -> None:
        """Give the file its name, for good. One that is there already is replaced by its equal, which mends a damaged one.

        The folder is locked meanwhile: if its fsync fails the name is taken back, and must not be one that another writer
        of the same bytes has just acknowledged.
        """
        path = self._path(id)
        with _opened(path.parent) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            existed = path.exists()
            os.replace(temp, path)  # noqa: PTH105  # the same call by which the tests make it fail
            try:
                os.fsync(fd)
            except OSError:
                if not existed:
                    with contextlib.suppress(OSError):
                        path.unlink()
                raise

    def open(self, id: str) -> BinaryIO:
        """Open a blob. Raises `NotFound`, or `Corrupt` before a byte of a damaged one is given.

        The whole digest is checked here, in a first pass; the second, which the caller makes, comes from the page cache.
        The file can be seeked.
        """
        path = self._path(check_id(id))
        with self._told("read"):
            try:
                file = path.open("rb")
            except FileNotFoundError:
                raise no_blob(id, self.folder) from None
            try:
                if hashlib.file_digest(file, "sha256").hexdigest() != id:
                    raise damaged(id, self.folder)
                file.seek(0)
            except BaseException:
                file.close()
                raise
        return file

    def path(self, id: str) -> Path:
        """Return where a blob lies, for a reader that checks its bytes by itself. Raises `NotFound`."""
        path = self._path(check_id(id))
        if not path.is_file():
            raise no_blob(id, self.folder)
        return path

    def list(self, prefix: str = "") -> Iterator[StoredBlob]:
        """Yield the blobs whose id starts with `prefix`, sorted by id."""
        for name in _FOLDERS:
            if not (name.startswith(prefix) or prefix.startswith(name)):
                continue
            with self._told("listed"):
                found = [(name + entry.name, entry) for entry in os.scandir(self.folder / name)]
            for id, entry in sorted(found, key=lambda pair: pair[0]):
                if id.startswith(prefix) and is_id(id):
                    with contextlib.suppress(FileNotFoundError):  # deleted while we list
                        yield StoredBlob(id, entry.stat().st_size)

    def delete(self, id: str) -> None:
        """Forget a blob; one that is not there is no error."""
        if not is_id(id):
            return
        path = self._path(id)
        with self._told("changed"):
            path.unlink(missing_ok=True)
            _sync_folder(path.parent)

    def written(self, id: str) -> datetime:
        """Return when a blob was written last. Raises `NotFound`."""
        with self._told("read"):
            try:
                return datetime.fromtimestamp(self._path(check_id(id)).stat().st_mtime, UTC)
            except FileNotFoundError:
                raise no_blob(id, self.folder) from None

    def link(self, id: str, seconds: float) -> str | None:  # noqa: ARG002  # the port's signature
        """Return None: a folder has no URL that another machine could read."""
        return None
