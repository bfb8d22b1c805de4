"""API keys, and the audit log."""

import re
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from leptonai.core.errors import Conflict, Denied, FieldError, Invalid, NotFound
from leptonai.core.nouns import Audit, Frozen, Key, Name, Record, utcnow
from leptonai.core.ports import DataKey
from leptonai.core.stages import Changes
from leptonai.server import rotation, shredding
from leptonai.server.auth import Caller, make_key
from leptonai.server.context import Context
from leptonai.server.receipts import Make, Receipts
from leptonai.server.routes.table import Cursor, Here, Limit, Once, Routes, Who, Word
from leptonai.server.scopes import PERMISSIONS, known, lacking
from leptonai.server.wire import Json, dump, encode, matched, page
from leptonai.server.writing import write

routes = Routes()
_ROTATE_SECONDS = 2.0  # of one call
_TAKEN = re.compile(r"local|[a-z]+_[0-9a-z]{26}")  # who else owns blobs: this machine's programs, and Runs by their ids


class NewKey(Frozen):
    """A key that is asked for."""

    name: Name
    scopes: Annotated[tuple[str, ...], Field(min_length=1, max_length=50)]
    expires: datetime | None = None


class Rotation(Frozen):
    """A rotation that is asked for."""

    begin: bool = True


@routes.route("POST", "/keys", "key:write")
def create_key(body: NewKey, here: Here, who: Who, once: Once = None) -> Response:
    """Make a key; its secret is in this answer and nowhere else."""
    _check(body, who)
    receipts = Receipts(here.catalog, who.owner, "key.create", once, body)
    if (before := receipts.known()) is not None:
        return _again(here, receipts, before)

    def effect(receipt: Make | None) -> Response:
        key, secret = make_key(here, body.name, body.scopes, who.name, expires=body.expires)
        answer = encode({"key": dump(key), "secret": secret})
        audit = Audit.new(name="key.create", subject=body.name, by=who.name, facts={"scopes": list(body.scopes)})
        more: tuple[Record, ...] = ()
        if receipt is not None:  # for a repeated request; sealed, since the secret is in it
            more = (receipt({"sealed": here.keyfile.wrap(DataKey(receipts.id or "", answer))}),)
        try:
            here.catalog.add(key, audit, *more)
        except Conflict:
            if here.catalog.find(Key, {"name": body.name}, limit=1) and receipts.known() is None:
                right = "a name that no key has or had"
                raise Conflict(
                    f"a key {body.name!r} was made before, and the audit speaks of it: choose another name",
                    errors=[FieldError("name", right)],
                ) from None
            raise
        return Json(answer, 201)

    answer = receipts.once(effect, lambda answer: _again(here, receipts, answer))
    here.callers.changed()
    return answer


def _again(here: Context, receipts: Receipts, answer: dict[str, Any]) -> Response:
    return Json(here.keyfile.unwrap(receipts.id or "", answer["sealed"]).secret, 201)


def _check(body: NewKey, who: Caller) -> None:
    for scope in body.scopes:
        if not known(scope):
            raise Invalid(
                f"there is no permission {scope[:60]!r}: use * or some of {', '.join(PERMISSIONS)}",
                errors=[FieldError("scopes", f"{scope[:60]!r} is not a permission")],
            )
    if not who.everything and (more := lacking(who.scopes, body.scopes)):
        raise Denied(f"{who.name} lacks {min(more)} itself, so it cannot give it to a key", permission=min(more))
    if body.expires is not None and (body.expires.tzinfo is None or body.expires <= utcnow()):
        right = "a time to come, with its time zone, such as 2027-01-31T00:00:00Z"
        raise Invalid(f"expires must be {right}", errors=[FieldError("expires", right)])
    if _TAKEN.fullmatch(body.name):
        raise Invalid(
            f"a key cannot be called {body.name!r}: choose another name", errors=[FieldError("name", "another")]
        )


@routes.route("GET", "/keys", "key:read")
def list_keys(here: Here, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List keys, without their secrets."""
    return page(partial(here.catalog.find, Key), limit, cursor)


@routes.route("DELETE", "/keys/{name}", "key:write")
def revoke_key(name: str, request: Request, here: Here, who: Who) -> Response:
    """Revoke a key: it opens nothing from now on."""

    def verb() -> Changes:
        found = here.catalog.find(Key, {"name": name}, limit=1)
        if not found:
            raise NotFound(f"there is no key {name!r}: see  lepton key list")
        matched(request, found[0])
        return Changes(change=(found[0].model_copy(update={"revoked": found[0].revoked or utcnow()}),))

    write(here, verb, Audit.new(name="key.revoke", subject=name, by=who.name))
    here.callers.changed()
    return Response(status_code=204)


@routes.route("POST", "/keys/rotation", "key:write")
def rotate(body: Rotation, here: Here, who: Who) -> Response:
    """Rotate the key-encryption key: begin, or go on; again with begin = false, until it is done."""
    if body.begin:
        rotation.begin(here.catalog, here.keyfile, who.name)
    found = here.rotator.go_on(_ROTATE_SECONDS)
    return Json({"key": found.key, "renewed": found.renewed, "done": found.done})


@routes.route("GET", "/audit", "audit:read")
def list_audit(
    here: Here, name: Word = None, subject: Word = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List who changed what, newest first."""
    where = {field: value for field, value in {"name": name, "subject": subject}.items() if value is not None}
    return page(partial(here.catalog.find, Audit, where), limit, cursor)


@routes.route("GET", "/audit/receipts", "audit:read")
def list_receipts(here: Here, subject: Word = None, limit: Limit = 50) -> Response:
    """List receipts of what was shredded, newest first, each with whether its signature holds."""
    where = {"name": shredding.DONE} | ({"subject": subject} if subject is not None else {})
    found = here.catalog.find(Audit, where, limit=limit)
    items = [{**dump(receipt), "valid": shredding.valid(here, receipt)} for receipt in found]
    return Json({"items": items, "next": None})
