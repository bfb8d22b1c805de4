"""Blobs: what is uploaded is sealed by the server; a Site that reaches the store seals for itself and leaves the key here."""

import base64
import binascii
from datetime import timedelta
from typing import Annotated, Literal

from anyio.to_thread import run_sync
from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from leptonai.core.errors import FieldError, Invalid, NotFound
from leptonai.core.nouns import Blob, Frozen
from leptonai.core.ports import DataKey
from leptonai.server import opens, sweeping, uploads
from leptonai.server.context import Context
from leptonai.server.routes.table import Here, Routes, Who
from leptonai.server.scopes import BLOB_READ, BLOB_WRITE
from leptonai.server.wire import Json

routes = Routes()

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Digests(Frozen):
    """Digests (SHA-256, hex) of plaintexts that an uploader has."""

    digests: Annotated[tuple[Digest, ...], Field(max_length=10_000)]


class SealedKey(Frozen):
    """The data key of a blob that a Site has written."""

    uid: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}$")]
    secret: Annotated[str, Field(max_length=100)]
    size: Annotated[int, Field(ge=0, lt=2**62)]
    plain: Digest
    scope: Literal["", "dataset:pii"] = ""


class Sweep(Frozen):
    """What is to be swept."""

    hours: Annotated[float, Field(ge=0, le=1e6)] = 24.0
    dry_run: bool = False


@routes.route("POST", "/blobs", BLOB_WRITE, limit=uploads.MAX_BYTES, streams=True)
async def upload(request: Request, here: Here, who: Who) -> Response:
    """Seal the body and store it."""
    stored = await here.uploads.store(request, here.sealed(who.owner).write)
    return Json({"blob": stored.id, "size": stored.size}, 201)


@routes.route("POST", "/blobs/raw", BLOB_WRITE, limit=uploads.MAX_BYTES, streams=True)
async def upload_raw(request: Request, here: Here) -> Response:
    """Store a body that is encrypted already."""
    stored = await here.uploads.store(request, here.raw.write)
    return Json({"blob": stored.id, "size": stored.size}, 201)


@routes.route("POST", "/blobs/known", BLOB_WRITE)
def known(body: Digests, here: Here, who: Who) -> Response:
    """Return which of these the caller has uploaded before, so that an upload can be taken up again."""
    return Json({"known": here.keyring(who.owner).known(body.digests)})


@routes.route("POST", "/blobs/sweep", "dataset:write")
def sweep(body: Sweep, here: Here, who: Who) -> Response:
    """Forget blobs that no record names and that are older than some hours."""
    lease = timedelta(hours=body.hours)
    found = sweeping.sweep(here.catalog, here.raw, who.name, lease=lease, dry_run=body.dry_run)
    return Json({**found._asdict(), "dry_run": body.dry_run})


@routes.route("GET", "/blobs/{blob}", BLOB_READ)
async def download(blob: str, here: Here, who: Who) -> Response:
    """Return the plaintext of a sealed blob."""
    await run_sync(opens.read_blob, who, here, blob)
    record = await run_sync(_record, here, blob)
    return await uploads.answer(lambda: here.sealed(who.owner).open(blob), record.size)


@routes.route("GET", "/blobs/{blob}/raw", BLOB_READ)
async def download_raw(blob: str, here: Here, who: Who) -> Response:
    """Return a blob as it is stored."""
    await run_sync(opens.read_blob, who, here, blob)
    return await uploads.answer(lambda: here.raw.open(blob), None)


@routes.route("PUT", "/blobs/{blob}/key", BLOB_WRITE)
def bind(blob: str, body: SealedKey, here: Here, who: Who) -> Response:
    """Leave the data key of a blob that was sealed elsewhere."""
    try:
        secret = base64.b64decode(body.secret, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != 32:
        raise Invalid("secret must be 32 bytes in base64", errors=[FieldError("secret", "32 bytes in base64")])
    here.keyring(who.owner, body.scope).bind(blob, DataKey(body.uid, secret), body.size, body.plain)
    return Response(status_code=204)


@routes.route("GET", "/blobs/{blob}/key", BLOB_READ)
def find_key(blob: str, here: Here, who: Who) -> Response:
    """Return the data key of a blob, to a Site that reads the store itself."""
    opens.read_blob(who, here, blob)
    _record(here, blob)
    key = here.keyring(who.owner).find(blob)
    return Json({"uid": key.uid, "secret": base64.b64encode(key.secret).decode()})


def _record(here: Context, blob: str) -> Blob:
    try:
        if len(blob) == 64:  # other records hold keys of the server's own
            return here.catalog.get(Blob, blob)
    except NotFound:
        pass
    raise NotFound(f"there is no blob {blob}")
