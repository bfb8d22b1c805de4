"""Files on their way to the server: in parts, each with its digest, and only those that are not there yet.

So an upload that was cut goes on where it stopped when the same call is made again, and the same file is sent once.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.spec import SourceFile
from leptonai.sdk.show import Progress

if TYPE_CHECKING:
    from leptonai.sdk.http import Http

PART = 16 << 20  # bytes in one part
_AT_ONCE = 4
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".npz")


class Source(NamedTuple):
    """A file to send: where it lies, the name it is to have, and the class folder it lies in."""

    path: Path
    name: str
    label: str | None


def sources(files: "str | Path | Sequence[str | Path]") -> list[Source]:
    """Return the files that are meant: paths as given; of a folder, its tables, or the images in its class folders.

    Raises `Invalid` that names what is missing.
    """
    given = [files] if isinstance(files, (str, Path)) else list(files)
    if not given:
        raise Invalid("no file is given: name at least one", errors=[FieldError("files", "at least one")])
    found: list[Source] = []
    for item in given:
        path = Path(item).expanduser()
        if path.is_dir():
            found += _folder(path)
        elif path.is_file():
            found.append(Source(path, path.name, None))
        else:
            raise Invalid(f"{item}: there is no such file", errors=[FieldError(str(item), "no such file")])
    return found


def _folder(folder: Path) -> list[Source]:
    tables = sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(TABLES))
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if tables and not classes:
        return [Source(path, path.name, None) for path in tables]
    found = [
        Source(path, f"{place.name}/{path.name}", place.name)
        for place in classes
        for path in sorted(place.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]
    if not found:
        raise Invalid(
            f"{folder}: there are no tables in this folder, and no images in class folders ({folder}/cat/1.png)",
            errors=[FieldError(str(folder), "tables, or a folder of images for each class")],
        )
    return found


class _Part(NamedTuple):
    data: bytes
    digest: str


def _cut(files: Iterable[Source]) -> Iterator[tuple[list[tuple[Source, int, int]], bytes]]:
    """Yield parts with what lies in them: (file, offset in the part, size). Small files share a part, large ones take several."""
    inside: list[tuple[Source, int, int]] = []
    buffer = bytearray()
    for source in files:
        size = source.path.stat().st_size
        if buffer and len(buffer) + size > PART:
            yield inside, bytes(buffer)
            inside, buffer = [], bytearray()
        if size <= PART:
            inside.append((source, len(buffer), size))
            buffer += source.path.read_bytes()
            continue
        with source.path.open("rb") as file:
            while chunk := file.read(PART):
                yield [(source, 0, size)], chunk
    if inside or buffer:
        yield inside, bytes(buffer)


def upload(http: "Http", files: Sequence[Source], title: str) -> tuple[SourceFile, ...]:
    """Send what is not there yet and return the files as an import takes them."""
    total = sum(source.path.stat().st_size for source in files)
    parts: dict[Source, list[str]] = {source: [] for source in files}
    places: dict[Source, tuple[int, int]] = {}
    done = 0
    try:
        with Progress(title) as bar, ThreadPoolExecutor(_AT_ONCE) as pool:
            for group in _groups(_cut(files)):
                ready = [_Part(data, hashlib.sha256(data).hexdigest()) for _, data in group]
                known = http.call("POST", "/blobs/known", json={"digests": [part.digest for part in ready]})["known"]
                blobs = pool.map(lambda part, there=known: there.get(part.digest) or http.upload(part.data), ready)
                for (inside, data), blob in zip(group, blobs, strict=True):
                    for source, offset, size in inside:
                        parts[source].append(blob)
                        places[source] = (offset, size)
                    done += len(data)
                    bar.update(done, total, "bytes")
    except OSError as error:
        raise Invalid(f"{error.filename}: it cannot be read: {error.strerror}") from error
    return tuple(
        SourceFile(
            name=source.name,
            size=places[source][1],
            parts=tuple(parts[source]),
            offset=places[source][0],
            label=source.label,
        )
        for source in files
    )


def _groups(
    parts: Iterator[tuple[list[tuple[Source, int, int]], bytes]],
) -> Iterator[list[tuple[list[tuple[Source, int, int]], bytes]]]:
    group = []
    for part in parts:
        group.append(part)
        if len(group) == _AT_ONCE:
            yield group
            group = []
    if group:
        yield group
