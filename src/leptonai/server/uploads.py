"""Bodies that become blobs, and blobs that become bodies: piece by piece, so that memory does not grow with them."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import BinaryIO

from anyio import CapacityLimiter, from_thread
from anyio.to_thread import run_sync
from fastapi import Request
from starlette.responses import StreamingResponse

from leptonai.core.errors import Busy, FieldError, Invalid, LeptonError
from leptonai.core.ports import StoredBlob
from leptonai.server import strict

MAX_BYTES = 16 << 30  # of one blob, such as a model's weights
AT_ONCE = 16
_PIECE = 1 << 20
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")

Write = Callable[[Iterator[bytes]], StoredBlob]


class Uploads:
    """Lets so many bodies in at once; the next one is told to come back."""

    def __init__(self) -> None:
        self._slots = 0

    async def store(self, request: Request, write: Write, limit: int = MAX_BYTES) -> StoredBlob:
        """Write the body by `write`, in a thread that waits for it. What is stored has the digest that was announced.

        Raises `Invalid` when it has not, `TooLarge`, `Busy`, and what `write` raises; then nothing of it is visible.
        """
        wanted = _announced(request)
        if self._slots >= AT_ONCE:
            raise Busy(f"{AT_ONCE} uploads are under way: try again", retry_after=1.0)
        pieces = strict.pieces(request, limit)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        def arriving() -> Iterator[bytes]:
            digest = hashlib.sha256()
            while (piece := from_thread.run(following)) is not None:
                digest.update(piece)
                yield piece
            if digest.digest() != wanted:  # before the store gives it a name
                raise Invalid(
                    "what arrived is not what was sent: its SHA-256 differs from Content-Digest; send it again"
                )

        self._slots += 1
        try:
            return await run_sync(lambda: write(arriving()), limiter=CapacityLimiter(1))
        finally:
            self._slots -= 1


def _announced(request: Request) -> bytes:
    found = _DIGEST.search(request.headers.get("content-digest", ""))
    if found is None:
        right = "sha-256=:BASE64: of the body"
        raise Invalid(
            f"an upload needs the header Content-Digest: {right}", errors=[FieldError("Content-Digest", right)]
        )
    return base64.b64decode(found[1])


async def answer(open_blob: Callable[[], BinaryIO], size: int | None) -> StreamingResponse:
    """Answer with a blob. What is not as it was written breaks the answer off: nobody takes half of it for the whole.

    Raises `NotFound` or `Corrupt` when it cannot be opened.
    """
    file = await run_sync(open_blob)

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while piece := await run_sync(file.read, _PIECE):
                yield piece
        finally:
            file.close()

    try:
        first = pieces()
        head = await anext(first, b"")  # so that what is wrong at once is an error, and no broken answer
    except LeptonError:
        file.close()
        raise

    async def whole() -> AsyncIterator[bytes]:
        yield head
        async for piece in first:
            yield piece

    headers = {"Content-Disposition": "attachment"} | ({} if size is None else {"Content-Length": str(size)})
    return StreamingResponse(whole(), media_type="application/octet-stream", headers=headers)
