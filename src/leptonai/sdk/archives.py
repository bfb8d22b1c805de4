"""What is in a zip archive, read on the user's machine: nothing is unpacked to disk, and no name in it becomes a path."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from leptonai.core.errors import FieldError, Invalid, LeptonError, TooLarge

MAX_FILES = 1_000_000
MAX_RATIO = 200  # of the whole archive, and at least...
MAX_SMALL = 1 << 30  # ...this much is allowed whatever the ratio
_ENTRY = 46  # bytes of an entry of the directory, at least
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"

Inside = tuple[str, int, Callable[[], BinaryIO]]  # name, size, how it is opened

# What `zipfile` raises for archives that are not as they should be.
_WRONG = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


@contextmanager
def opened(path: Path) -> Iterator[list[Inside]]:
    """Give the files in an archive. Raises `Invalid` or `TooLarge` for one that cannot be meant."""
    try:
        _check_directory(path)
        archive = zipfile.ZipFile(path)
    except _WRONG as error:
        raise _unreadable(path, str(path), error) from error
    with archive:
        yield [_inside(path, archive, info) for info in _files(path, archive)]


def _check_directory(path: Path) -> None:
    """Raise `TooLarge` before a directory of more files is read than are taken: each of them would take memory."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - (1 << 16) - 22 - 20)
        file.seek(start)
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + 22:
            return
        length, offset = struct.unpack_from("<II", tail, at + 12)
        locator = at - 20
        if locator >= 0 and tail[locator : locator + 4] == _LOCATOR:
            file.seek(min(size, struct.unpack_from("<Q", tail, locator + 8)[0]))
            end = file.read(56)
            if end[:4] == _END64 and len(end) == 56:
                length, offset = struct.unpack_from("<QQ", end, 40)
        if length // _ENTRY > MAX_FILES and _entries(file, min(offset, size), length) > MAX_FILES:
            raise TooLarge(
                f"{path} holds more than {MAX_FILES:,} files, and no more are read: make several archives",
                errors=[FieldError(str(path), f"at most {MAX_FILES:,} files")],
            )


def _entries(file: BinaryIO, offset: int, length: int) -> int:
    """Count the entries of a directory, one after the other, up to one more than are taken."""
    file.seek(offset)
    count = read = 0
    while read < length and count <= MAX_FILES:
        head = file.read(_ENTRY)
        if len(head) < _ENTRY:
            break
        more = sum(struct.unpack_from("<HHH", head, 28))
        file.seek(more, os.SEEK_CUR)
        read += _ENTRY + more
        count += 1
    return count


def _files(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise TooLarge(f"{path} holds {len(infos):,} files, and at most {MAX_FILES:,} are read: make several archives")
    found = [info for info in infos if not info.is_dir() and not _hidden(info.filename)]
    seen: set[str] = set()
    for info in found:
        name = info.filename
        plain = _plain(name)
        if plain in seen:
            raise Invalid(f"{path} holds {plain!r} twice: which of them is meant?", errors=[FieldError(name, "once")])
        seen.add(plain)
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0]:
            raise Invalid(
                f"{path} holds a file named {name[:200]!r}, which leads out of it: rename it",
                errors=[FieldError(name[:200], "a plain name")],
            )
        if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
            raise Invalid(
                f"{path}: {name!r} is a link or a device, not a file: take it out", errors=[FieldError(name, "a file")]
            )
        if info.flag_bits & 1:
            raise Invalid(
                f"{path}: {name!r} is encrypted with a password: unpack it first", errors=[FieldError(name, "plain")]
            )
    _check_apart(path, infos)
    total = sum(info.file_size for info in found)
    if total > max(MAX_SMALL, MAX_RATIO * path.stat().st_size):
        raise TooLarge(
            f"{path} unpacks to {total >> 20:,} MiB, more than {MAX_RATIO} times its size: unpack it yourself if that is right"
        )
    return sorted(found, key=lambda info: info.filename)


def _check_apart(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Raise `Invalid` where files share bytes: a small archive could hold any amount of them (Fifield 2019)."""
    end, before = 0, ""
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise Invalid(
                f"{path}: {info.filename!r} and {before!r} share the same bytes: make the archive again",
                errors=[FieldError(info.filename, "bytes of its own")],
            )
        end, before = info.header_offset + 30 + len(info.orig_filename) + info.compress_size, info.filename


def _plain(name: str) -> str:
    """Return a name without the folders in it that are none: ``./a//b`` is ``a/b``."""
    return str(PurePosixPath(name))


def _hidden(name: str) -> bool:
    return any(
        (part.startswith(".") and not part.startswith("..")) or part == "__MACOSX" for part in PurePosixPath(name).parts
    )


def _inside(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Inside:
    def open_() -> BinaryIO:
        try:
            return cast(BinaryIO, _Member(path, info, archive.open(info)))
        except _WRONG as error:
            raise _unreadable(path, info.filename, error) from error

    return _plain(info.filename), info.file_size, open_


class _Member(RawIOBase):
    """One file of an archive; what is wrong with it is told when it is read, which is when it is seen."""

    def __init__(self, path: Path, info: zipfile.ZipInfo, file: IO[bytes]):
        self._path, self._name, self._file = path, info.filename, file
        self._left = info.file_size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> Any:
        """Return up to `size` bytes. Raises `Invalid`."""
        try:
            data = self._file.read(size)
            self._left -= len(data)
            if self._left < 0 or (self._left and len(data) < size):
                raise EOFError("it is not as long as the archive says")
            return data
        except _WRONG as error:
            raise _unreadable(self._path, self._name, error) from error

    def close(self) -> None:
        """Close it."""
        self._file.close()
        super().close()


def _unreadable(path: Path, name: str, error: Exception) -> LeptonError:
    if isinstance(error, LeptonError):
        return error
    what = f"{path}: {name!r}" if name != str(path) else str(path)
    why = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return Invalid(
        f"{what} is not a zip archive that can be read: {why}: make it again"
        if name == str(path)
        else f"{what} cannot be unpacked: {why}: make the archive again",
        errors=[FieldError(name[:200], "a zip archive" if name == str(path) else "a file that can be unpacked")],
    )
