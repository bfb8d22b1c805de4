"""What is in a zip archive, read on the user's machine: nothing is unpacked to disk, and no name in it becomes a path."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from leptonai.core.errors import FieldError, Invalid, TooLarge

MAX_FILES = 1_000_000
MAX_RATIO = 200  # of the whole archive, and at least...
MAX_SMALL = 1 << 30  # ...this much is allowed whatever the ratio

Inside = tuple[str, int, Callable[[], BinaryIO]]  # name, size, how it is opened


@contextmanager
def opened(path: Path) -> Iterator[list[Inside]]:
    """Give the files in an archive. Raises `Invalid` or `TooLarge` for one that cannot be meant."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield [_inside(path, archive, info) for info in _files(path, archive)]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise Invalid(
            f"{path} is not a zip archive that can be read: {error}", errors=[FieldError(str(path), "a zip archive")]
        ) from error


def _files(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise TooLarge(f"{path} holds {len(infos):,} files, and at most {MAX_FILES:,} are read: make several archives")
    found = [info for info in infos if not info.is_dir() and not _hidden(info.filename)]
    seen: set[str] = set()
    for info in found:
        name = info.filename
        if name in seen:
            raise Invalid(f"{path} holds {name!r} twice: which of them is meant?", errors=[FieldError(name, "once")])
        seen.add(name)
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0]:
            raise Invalid(
                f"{path} holds a file named {name!r}, which leads out of it", errors=[FieldError(name, "a plain name")]
            )
        if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
            raise Invalid(f"{path}: {name!r} is a link or a device, not a file", errors=[FieldError(name, "a file")])
        if info.flag_bits & 1:
            raise Invalid(
                f"{path}: {name!r} is encrypted with a password: unpack it first", errors=[FieldError(name, "plain")]
            )
    total = sum(info.file_size for info in found)
    if total > max(MAX_SMALL, MAX_RATIO * path.stat().st_size):
        raise TooLarge(
            f"{path} unpacks to {total >> 20:,} MiB, more than {MAX_RATIO} times its size: unpack it yourself if that is right"
        )
    return sorted(found, key=lambda info: info.filename)


def _hidden(name: str) -> bool:
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _inside(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Inside:
    def open_() -> BinaryIO:
        try:
            return cast(BinaryIO, archive.open(info))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise Invalid(f"{path}: {info.filename} cannot be read: {error}") from error

    return info.filename, info.file_size, open_
