"""Files on their way to the server: in parts, and only those that are not there yet.

So an upload that was cut goes on where it stopped when the same call is made again, and the same bytes are sent once.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.spec import SourceFile
from leptonai.sdk.show import Progress

if TYPE_CHECKING:
    from leptonai.sdk.http import Http

PART = 16 << 20  # bytes in one part
_AT_ONCE = 4
_NAMED = 1000  # more files than this are listed in a blob of their own
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".npz")


class Source(NamedTuple):
    """A file to send: where it lies, the name it is to have, and the class folder it lies in."""

    path: Path
    name: str
    label: str | None


def sources(files: "str | Path | Sequence[str | Path]") -> list[Source]:
    """Return the files that are meant: paths as given; of a folder, its tables, or the images in its class folders.

    Raises `Invalid` that names what is missing, empty, or of a kind that is not known: before anything is sent.
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
            raise Invalid(f"{item}: there is no such file or folder", errors=[FieldError(str(item), "no such file")])
    found = _distinct(found)
    for source in found:
        _check(source)
    return found


def _folder(folder: Path) -> list[Source]:
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    tables = [path for path in inside if path.is_file() and path.name.lower().endswith(TABLES)]
    by_class = [
        Source(path, f"{place.name}/{path.name}", place.name)
        for place in inside
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]
    pictures = any(source.name.lower().endswith(IMAGES) for source in by_class)
    if tables and pictures:
        raise Invalid(
            f"{folder} holds tables ({tables[0].name}) and class folders with images ({by_class[0].label}): name the one that "
            "is meant",
            errors=[FieldError(str(folder), "tables, or images in class folders")],
        )
    if tables:
        return [Source(path, path.name, None) for path in tables]
    if not pictures:
        raise Invalid(
            f"{folder}: there are no tables in this folder, and no images in class folders, such as {folder / 'cat' / '1.png'}",
            errors=[FieldError(str(folder), "tables, or a folder of images for each class")],
        )
    alone = next((path for path in inside if path.is_file() and path.name.lower().endswith(IMAGES)), None)
    if alone is not None:
        raise Invalid(
            f"{alone} lies beside the class folders: put it into one of them, or take it away",
            errors=[FieldError(alone.name, "in a class folder")],
        )
    return by_class


def _distinct(found: list[Source]) -> list[Source]:
    """Return the files with names that tell them apart: those of the same name get their whole path."""
    seen: dict[str, int] = {}
    for source in found:
        seen[source.name] = seen.get(source.name, 0) + 1
    return [source if seen[source.name] == 1 else source._replace(name=str(source.path)) for source in found]


def _check(source: Source) -> None:
    if source.label is None and not source.name.lower().endswith(TABLES):
        if source.name.lower().endswith(IMAGES):
            raise Invalid(
                f"{source.path} is one image: give the folder that has a folder of images for each class",
                errors=[FieldError(str(source.path), "a folder")],
            )
        right = f"{', '.join(TABLES)}, or a folder of images by class"
        raise Invalid(
            f"{source.path} is not a kind of file that is known: use {right}",
            errors=[FieldError(str(source.path), right)],
        )
    try:
        size = source.path.stat().st_size
    except OSError as error:
        raise _unreadable(source.path, error) from error
    if not size:
        raise Invalid(
            f"{source.path} is empty: there is no data in it", errors=[FieldError(str(source.path), "is empty")]
        )


def _unreadable(path: object, error: OSError) -> Invalid:
    return Invalid(
        f"{error.filename or path} cannot be read: {error.strerror or error}",
        errors=[FieldError(str(path), "readable")],
    )


class _Piece(NamedTuple):
    """Bytes of one file in a part: which file, where in the part it begins, how many bytes."""

    file: int
    offset: int
    size: int


def _cut(files: Sequence[Source]) -> Iterator[tuple[list[_Piece], bytes]]:
    """Yield parts with what lies in them. Small files share a part, large ones take several of their own."""
    inside: list[_Piece] = []
    buffer = bytearray()
    for number, source in enumerate(files):
        try:
            with source.path.open("rb") as file:
                data = file.read(PART)
                if buffer and len(buffer) + len(data) > PART:
                    yield inside, bytes(buffer)
                    inside, buffer = [], bytearray()
                if len(data) < PART:
                    inside.append(_Piece(number, len(buffer), len(data)))
                    buffer += data
                    continue
                while data:
                    yield [_Piece(number, 0, len(data))], data
                    data = file.read(PART)
        except OSError as error:
            raise _unreadable(source.path, error) from error
    if inside:
        yield inside, bytes(buffer)


def upload(http: "Http", files: Sequence[Source], title: str) -> dict[str, Any]:
    """Send what is not there yet; return the fields `files`, or `index` and `parts`, of an import's spec."""
    total = sum(source.path.stat().st_size for source in files)
    sent: list[tuple[list[_Piece], str]] = []
    parts = _cut(files)
    with Progress(title) as bar, ThreadPoolExecutor(_AT_ONCE) as pool:
        while group := list(islice(parts, _AT_ONCE)):  # no more than these are in memory
            blobs: list[Future[str]] = [pool.submit(http.upload, data) for _, data in group]
            for (inside, _), blob in zip(group, blobs, strict=True):
                sent.append((inside, blob.result()))
                done = sum(piece.size for pieces, _ in sent for piece in pieces)
                bar.update(done, max(total, done), "bytes")
    listed = _listed(files, sent)
    if len(listed) <= _NAMED:
        return {"files": listed}
    index = http.upload(json.dumps([file.model_dump(mode="json") for file in listed]).encode())
    return {"index": index, "parts": [blob for _, blob in sent]}


def _listed(files: Sequence[Source], sent: Sequence[tuple[list[_Piece], str]]) -> list[SourceFile]:
    pieces: dict[int, list[tuple[_Piece, str]]] = {}
    for inside, blob in sent:
        for piece in inside:
            pieces.setdefault(piece.file, []).append((piece, blob))
    return [
        SourceFile(
            name=source.name,
            size=sum(piece.size for piece, _ in pieces[number]),
            parts=tuple(blob for _, blob in pieces[number]),
            offset=pieces[number][0][0].offset,
            label=source.label,
        )
        for number, source in enumerate(files)
    ]
