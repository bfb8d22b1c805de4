"""Files on their way to the server: in parts, and only those that are not there yet.

So an upload that was cut goes on where it stopped when the same call is made again, and the same bytes are sent once.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from leptonai.data.spec import SourceFile
from leptonai.sdk.show import Progress
from leptonai.sdk.sources import Source, unreadable

if TYPE_CHECKING:
    from leptonai.sdk.http import Http

PART = 16 << 20  # bytes in one part
_AT_ONCE = 4
_LARGE = 32 << 20  # bytes from which on it pays not to send them
_NAMED = 1000  # more files than this are listed in a blob of their own


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
            with source.open() as file:
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
            raise unreadable(source.place, error) from error
    if inside:
        yield inside, bytes(buffer)


def upload(http: "Http", files: Sequence[Source], title: str, *, here: bool = False) -> dict[str, Any]:
    """Send what is not there yet; return the fields `files`, or `index` and `parts`, of an import's spec.

    Where the server is `here`, on this machine, it reads large files where they lie, and nothing is sent.
    """
    total = sum(source.size for source in files)
    if here and total >= _LARGE and all(source.path is not None for source in files):
        return {**_spec(http, [_in_place(source) for source in files], ()), "local": True}
    sent: list[tuple[list[_Piece], str]] = []
    parts = _cut(files)
    with Progress(title) as bar, ThreadPoolExecutor(_AT_ONCE) as pool:
        while group := list(islice(parts, _AT_ONCE)):  # no more than these are in memory
            blobs: list[Future[str]] = [pool.submit(http.upload, data) for _, data in group]
            for (inside, _), blob in zip(group, blobs, strict=True):
                sent.append((inside, blob.result()))
                done = sum(piece.size for pieces, _ in sent for piece in pieces)
                bar.update(done, max(total, done), "bytes")
    return _spec(http, _listed(files, sent), [blob for _, blob in sent])


def _spec(http: "Http", listed: Sequence[SourceFile], parts: Sequence[str]) -> dict[str, Any]:
    if len(listed) <= _NAMED:
        return {"files": listed}
    index = http.upload(json.dumps([file.model_dump(mode="json") for file in listed]).encode())
    return {"index": index, "parts": parts}


def _in_place(source: Source) -> SourceFile:
    path = source.path or Path()
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise unreadable(path, error) from error
    return SourceFile(name=source.name, size=source.size, path=str(path.resolve()), changed=changed, label=source.label)


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
