"""API keys, and the audit log."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from leptonai.core.errors import Denied, FieldError, Invalid, NotFound
from leptonai.core.nouns import Audit, Frozen, Key, Name, utcnow
from leptonai.server.auth import make_key
from leptonai.server.routes.table import PERMISSIONS, Here, Routes, Who
from leptonai.server.wire import Json, dump, page

routes = Routes()
Limit = Annotated[int, Query(ge=1, le=500)]


class NewKey(Frozen):
    """A key that is asked for."""

    name: Name
    scopes: Annotated[tuple[str, ...], Field(min_length=1, max_length=50)]
    expires: datetime | None = None


@routes.route("POST", "/keys", "key:write")
def create_key(body: NewKey, here: Here, who: Who) -> Response:
    """Make a key; its secret is in this answer and nowhere else."""
    for scope in body.scopes:
        if scope != "*" and scope not in PERMISSIONS:
            raise Invalid(
                f"there is no permission {scope[:60]!r}: use * or some of {', '.join(PERMISSIONS)}",
                errors=[FieldError("scopes", f"{scope[:60]!r} is not a permission")],
            )
        if not who.scopes & {scope, "*"}:
            raise Denied(f"{who.name} lacks {scope} itself, so it cannot give it to a key")
    if body.expires is not None and body.expires.tzinfo is None:
        raise Invalid("expires must say its time zone, such as 2027-01-31T00:00:00Z")
    key, secret = make_key(here, body.name, body.scopes, who.name, expires=body.expires)
    here.catalog.add(
        key, Audit.new(name="key.create", subject=body.name, by=who.name, facts={"scopes": list(body.scopes)})
    )
    return Json({"key": dump(key), "secret": secret}, 201)


@routes.route("GET", "/keys", "key:read")
def list_keys(here: Here, limit: Limit = 50, cursor: str | None = None) -> Response:
    """List keys, without their secrets."""
    return page(here.catalog.find(Key, limit=limit, after=cursor), limit)


@routes.route("DELETE", "/keys/{name}", "key:write")
def revoke_key(name: str, here: Here, who: Who) -> Response:
    """Revoke a key: it opens nothing from now on."""
    found = here.catalog.find(Key, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no key {name!r}: see  lepton key list")
    key = found[0].model_copy(update={"revoked": found[0].revoked or utcnow()})
    here.catalog.change(key, add=(Audit.new(name="key.revoke", subject=name, by=who.name),))
    return Response(status_code=204)


@routes.route("GET", "/audit", "audit:read")
def list_audit(
    here: Here, name: str | None = None, subject: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> Response:
    """List who changed what, newest first."""
    where = {field: value for field, value in {"name": name, "subject": subject}.items() if value is not None}
    return page(here.catalog.find(Audit, where, limit=limit, after=cursor), limit)
