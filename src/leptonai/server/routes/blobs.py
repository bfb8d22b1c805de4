"""Blobs: what is uploaded is sealed by the server; a Site that reaches the store seals for itself and leaves the key here."""

import base64
import binascii
import hashlib
import re
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from leptonai.core.errors import FieldError, Invalid, NotFound, TooLarge
from leptonai.core.nouns import Blob, Frozen
from leptonai.core.ports import DataKey, StoredBlob
from leptonai.server.context import Context
from leptonai.server.routes.table import Here, Routes, Who
from leptonai.server.wire import Json

routes = Routes()
MAX_BYTES = 64 << 20
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


class Digests(Frozen):
    """Digests (SHA-256, hex) of plaintexts that an uploader has."""

    digests: Annotated[tuple[str, ...], Field(max_length=10_000)]


class SealedKey(Frozen):
    """The data key of a blob that a Site has written."""

    uid: Annotated[str, Field(max_length=200)]
    secret: str
    size: int = Field(ge=0)
    plain: Annotated[str, Field(pattern=_SHA256.pattern)]


def _id(blob: str) -> str:
    if not _SHA256.match(blob):
        raise Invalid(f"{blob[:80]!r} is not a blob: an id has 64 hexadecimal digits")
    return blob


def _record(here: Context, blob: str) -> Blob | None:
    try:
        return here.catalog.get(Blob, blob)
    except NotFound:
        return None


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BYTES:
            raise TooLarge(f"a blob has at most {MAX_BYTES >> 20} MiB: send a larger file in parts")
        parts.append(chunk)
    body = b"".join(parts)
    given = request.headers.get("content-digest")
    found = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", given or "")
    right = "sha-256=:BASE64: of the body"
    if found is None:
        raise Invalid(
            f"an upload needs the header Content-Digest: {right}", errors=[FieldError("Content-Digest", right)]
        )
    if base64.b64encode(hashlib.sha256(body).digest()).decode() != found[1]:
        raise Invalid("what arrived is not what was sent: its SHA-256 differs from Content-Digest; send it again")
    return body


@routes.route("POST", "/blobs", "blob:write")
async def upload(request: Request, here: Here, who: Who) -> Response:
    """Seal the body and store it."""
    body = await _body(request)
    stored: StoredBlob = await run_sync(lambda: here.sealed(who.owner).write([body]))
    return Json({"blob": stored.id, "size": stored.size}, 201)


@routes.route("POST", "/blobs/raw", "blob:write")
async def upload_raw(request: Request, here: Here) -> Response:
    """Store a body that is encrypted already."""
    body = await _body(request)
    stored: StoredBlob = await run_sync(lambda: here.raw.write([body]))
    return Json({"blob": stored.id, "size": stored.size}, 201)


@routes.route("POST", "/blobs/known", "blob:write")
def known(body: Digests, here: Here, who: Who) -> Response:
    """Return which of these the caller has uploaded before, so that an upload can be taken up again."""
    for digest in body.digests:
        _id(digest)
    return Json({"known": here.keyring(who.owner).known(body.digests)})


@routes.route("GET", "/blobs/{id}", "blob:read")
def download(id: str, here: Here, who: Who) -> Response:
    """Return the plaintext of a sealed blob."""
    who.may_read(_id(id), _record(here, id))
    with here.sealed(who.owner).open(id) as file:
        return Response(
            file.read(), media_type="application/octet-stream", headers={"Content-Disposition": "attachment"}
        )


@routes.route("GET", "/blobs/{id}/raw", "blob:read")
def download_raw(id: str, here: Here, who: Who) -> Response:
    """Return a blob as it is stored."""
    who.may_read(_id(id), _record(here, id))
    with here.raw.open(id) as file:
        return Response(
            file.read(), media_type="application/octet-stream", headers={"Content-Disposition": "attachment"}
        )


@routes.route("PUT", "/blobs/{id}/key", "blob:write")
def bind(id: str, body: SealedKey, here: Here, who: Who) -> Response:
    """Leave the data key of a blob that was sealed elsewhere."""
    try:
        secret = base64.b64decode(body.secret, validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != 32:
        raise Invalid("secret must be 32 bytes in base64", errors=[FieldError("secret", "32 bytes in base64")])
    here.keyring(who.owner).bind(_id(id), DataKey(body.uid, secret), body.size, body.plain)
    return Response(status_code=204)


@routes.route("GET", "/blobs/{id}/key", "blob:read")
def find_key(id: str, here: Here, who: Who) -> Response:
    """Return the data key of a blob, to a Site that reads the store itself."""
    who.may_read(_id(id), _record(here, id))
    key = here.keyring(who.owner).find(id)
    return Json({"uid": key.uid, "secret": base64.b64encode(key.secret).decode()})
