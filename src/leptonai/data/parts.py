"""The uploaded parts of files, put together again."""

import io
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from leptonai.core.errors import Corrupt, Denied, FieldError, Invalid
from leptonai.core.ports import Store
from leptonai.data.spec import Import, SourceFile

_FILES = TypeAdapter(tuple[SourceFile, ...])
_KEPT = 2  # parts of one file that are held at once: a reader that jumps between two places reads each part once


def listed(spec: Import, blobs: Store) -> tuple[SourceFile, ...]:
    """Return the files to import, from the spec or from its index. Raises `Invalid`, `Denied` for a path that nobody allowed."""
    files = spec.files if spec.index is None else _indexed(spec.index, blobs)
    if not spec.local and (named := next((file for file in files if file.path is not None), None)):
        raise Denied(
            f"{named.name}: paths are read only for programs on the machine of the server: upload the file",
            permission="local",
        )
    return files


def _indexed(index: str, blobs: Store) -> tuple[SourceFile, ...]:
    with blobs.open(index) as file:
        data = file.read()
    try:
        files = _FILES.validate_json(data)
    except ValidationError as error:
        raise Invalid(f"the index of the files is not a list of files: {error.errors()[0]['msg']}") from error
    if not files:
        raise Invalid("the index of the files lists no file: name at least one")
    return files


class PartsFile(io.RawIOBase):
    """The bytes of one uploaded file, read part by part: never more than two parts are in memory.

    Raises `Corrupt` when its parts are shorter than the file is said to be.
    """

    def __init__(self, file: SourceFile, blobs: Store):
        self._file = file
        self._blobs = blobs
        self._at = 0
        self._length = 0  # of each part but the last, once one was opened
        self._kept: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that a reader may jump."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self._at = max(0, offset + (0, self._at, self._file.size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the part at hand goes; 0 at the end."""
        if self._at >= self._file.size or not len(buffer):
            return 0
        data, start = self._part(self._at)
        inside = self._at - start
        taken = min(len(buffer), len(data) - inside, self._file.size - self._at)
        memoryview(buffer).cast("B")[:taken] = memoryview(data)[inside : inside + taken]
        self._at += taken
        return taken

    def _part(self, place: int) -> tuple[memoryview | bytes, int]:
        """Return the part that holds a byte, and where in the file it begins."""
        file = self._file
        if len(file.parts) == 1:
            return memoryview(self._open(0))[file.offset : file.offset + file.size], 0
        self._length = self._length or len(self._open(0))
        number = place // max(1, self._length)
        if number >= len(file.parts) or place - number * self._length >= len(data := self._open(number)):
            raise self._short()
        return data, number * self._length

    def _open(self, number: int) -> bytes:
        if number not in self._kept:
            with self._blobs.open(self._file.parts[number]) as opened:
                data = opened.read()
            if number == 0 and len(self._file.parts) == 1 and len(data) < self._file.offset + self._file.size:
                raise self._short(len(data) - self._file.offset)
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[number] = data
        return self._kept[number]

    def _short(self, length: int | None = None) -> Corrupt:
        found = f"{max(0, length):,} of its {self._file.size:,} bytes" if length is not None else "not all of its bytes"
        return Corrupt(f"{self._file.name}: {found} were uploaded: upload it again")


def opened(file: SourceFile, blobs: Store) -> io.BufferedReader:
    """Open a file, as one that can be read and jumped in. Raises `Invalid` when it is not the one that was named any more."""
    if file.path is not None:
        return _at_path(file)
    return io.BufferedReader(PartsFile(file, blobs), 1 << 20)


def _at_path(file: SourceFile) -> io.BufferedReader:
    try:
        found: io.BufferedReader = io.BufferedReader(io.FileIO(str(file.path)), 1 << 20)
    except OSError as error:
        raise Invalid(
            f"{file.name} cannot be read any more: {error.strerror}", errors=[FieldError(file.name, "readable")]
        ) from error
    about = os.fstat(found.fileno())
    if not stat.S_ISREG(about.st_mode) or (about.st_size, about.st_mtime_ns) != (file.size, file.changed):
        found.close()
        raise Invalid(
            f"{file.name} was changed while it was imported: import it again",
            errors=[FieldError(file.name, "unchanged")],
        )
    return found


def unchanged(files: Sequence[SourceFile]) -> None:
    """Raise `Invalid` when one of the files that are read where they lie was changed since it was named."""
    for file in files:
        if file.path is not None:
            _at_path(file).close()


def contents(files: Sequence[SourceFile], blobs: Store) -> Iterator[tuple[SourceFile, bytes]]:
    """Yield each small file with its bytes. Many share a part: the last one read is kept."""
    kept, data = "", b""
    for file in files:
        if file.path is not None:
            with _at_path(file) as source:
                yield file, source.read()
            continue
        pieces = []
        for part in file.parts:
            if part != kept:
                with blobs.open(part) as found:
                    kept, data = part, found.read()
            pieces.append(data)
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if file.offset or len(whole) != file.size:
            whole = whole[file.offset : file.offset + file.size]
        if len(whole) != file.size:
            raise Corrupt(f"{file.name}: {len(whole):,} of its {file.size:,} bytes were uploaded: upload it again")
        yield file, whole
