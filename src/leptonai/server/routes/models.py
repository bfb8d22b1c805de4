"""Models and their aliases."""

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import Response

from leptonai.core.errors import Conflict
from leptonai.core.nouns import Alias, Audit, Frozen, Model
from leptonai.core.stages import load
from leptonai.registry.spec import SetAlias
from leptonai.server.routes.table import AtDesk, Here, Routes, Who
from leptonai.server.wire import matched, one, page

routes = Routes()
Limit = Annotated[int, Query(ge=1, le=500)]


class Version(Frozen):
    """Which version is to hold an alias."""

    version: int = Field(ge=1)


@routes.route("GET", "/models", "model:read")
def list_models(
    here: Here, name: str | None = None, run: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> Response:
    """List model versions, newest first."""
    where = {field: value for field, value in {"name": name, "run": run}.items() if value is not None}
    return page(here.catalog.find(Model, where, limit=limit, after=cursor), limit)


@routes.route("GET", "/aliases", "model:read")
def list_aliases(here: Here, name: str | None = None, limit: Limit = 50, cursor: str | None = None) -> Response:
    """List aliases."""
    return page(here.catalog.find(Alias, {"name": name} if name else {}, limit=limit, after=cursor), limit)


@routes.route("GET", "/models/{ref}", "model:read")
def get_model(ref: str, desk: AtDesk) -> Response:
    """Return a model version: the newest of a name, or the holder of name@alias."""
    return one(desk.model(ref))


@routes.route("GET", "/models/{ref}/{version}", "model:read")
def get_version(ref: str, version: str, desk: AtDesk) -> Response:
    """Return one version of a model."""
    return one(desk.model(f"{ref}/{version}"))


def _write(here: Here, who: Who, action: str, subject: str, verb: Any) -> None:
    for last in (False, False, False, True):
        changes = verb()
        audit = Audit.new(name=action, subject=subject, by=who.name)
        try:
            here.catalog.change(*changes.change, add=(*changes.add, audit), drop=changes.drop)
        except Conflict:
            if last:
                raise
            continue
        return


@routes.route("DELETE", "/models/{ref}/{version}", "model:write")
def delete_version(ref: str, version: str, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Delete one version of a model, unless an alias or a service points at it."""
    found = desk.model(f"{ref}/{version}")
    matched(request, found)
    _write(
        here, who, "model.delete", f"{ref}/{version}", lambda: load("leptonai.registry.verbs:delete_model")(found, desk)
    )
    return Response(status_code=204)


@routes.route("PUT", "/models/{name}/aliases/{alias}", "model:write")
def set_alias(name: str, alias: str, body: Version, here: Here, desk: AtDesk, who: Who) -> Response:
    """Point an alias at a version; whoever held it holds it no more."""
    spec = SetAlias(alias=alias, version=body.version)
    _write(
        here, who, "alias.set", f"{name}@{alias}", lambda: load("leptonai.registry.verbs:set_alias")(name, spec, desk)
    )
    return one(here.catalog.get(Alias, f"{name}@{alias}"))


@routes.route("DELETE", "/models/{name}/aliases/{alias}", "model:write")
def drop_alias(name: str, alias: str, here: Here, desk: AtDesk, who: Who) -> Response:
    """Take an alias away."""
    _write(
        here,
        who,
        "alias.drop",
        f"{name}@{alias}",
        lambda: load("leptonai.registry.verbs:drop_alias")(name, alias, desk),
    )
    return Response(status_code=204)
