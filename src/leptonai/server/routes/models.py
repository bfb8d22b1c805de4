"""Models and their aliases."""

from functools import partial

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Alias, Audit, Blob, Frozen, Model, Record
from leptonai.core.stages import Changes, load
from leptonai.registry.spec import ImportModel, SetAlias
from leptonai.server import opens
from leptonai.server.receipts import Make, Receipts
from leptonai.server.routes.table import AtDesk, Cursor, Here, Limit, Once, Routes, Who, Word
from leptonai.server.wire import matched, one, page
from leptonai.server.writing import write

routes = Routes()


class Version(Frozen):
    """Which version is to hold an alias."""

    version: int = Field(ge=1)
    override: str = Field(default="", max_length=1000)  # why its gate is passed by; needs the permission model:gate


@routes.route("GET", "/models", "model:read")
def list_models(here: Here, name: Word = None, run: Word = None, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List model versions, newest first."""
    where = {field: value for field, value in {"name": name, "run": run}.items() if value is not None}
    return page(partial(here.catalog.find, Model, where), limit, cursor)


@routes.route("POST", "/models", "model:write")
def import_model(body: ImportModel, here: Here, desk: AtDesk, who: Who, once: Once = None) -> Response:
    """Make a version of files that were made elsewhere and uploaded before."""
    opens.hand_over(who, here, [file.blob for file in body.files.values()])
    for file in body.files.values():
        here.catalog.get(Blob, file.blob)
    receipts = Receipts(here.catalog, who.owner, "model.import", once, body)
    if (known := receipts.known()) is not None:
        return one(here.catalog.get(Model, known["model"]), 201)

    def effect(receipt: Make | None) -> Model:
        made: list[Model] = []

        def verb() -> Changes:
            changes = Changes.of(load("leptonai.registry.verbs:import_model")(body, desk))
            made[:] = [record for record in changes.add if isinstance(record, Model)]
            proof: tuple[Record, ...] = () if receipt is None else (receipt({"model": made[0].id}),)
            return Changes(add=(*changes.add, *proof), change=changes.change)

        audit = Audit.new(name="model.import", subject=body.name, by=who.name, facts={"task": body.task})
        write(here, verb, audit, settled=lambda: receipts.known() is not None)
        return here.catalog.get(Model, made[0].id)

    return one(receipts.once(effect, lambda known: here.catalog.get(Model, known["model"])), 201)


@routes.route("GET", "/aliases", "model:read")
def list_aliases(here: Here, name: Word = None, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List aliases."""
    return page(partial(here.catalog.find, Alias, {} if name is None else {"name": name}), limit, cursor)


@routes.route("GET", "/models/{ref}", "model:read")
def get_model(ref: str, desk: AtDesk) -> Response:
    """Return a model version: the newest of a name, or the holder of name@alias."""
    return one(desk.model(ref))


@routes.route("GET", "/models/{ref}/{version}", "model:read")
def get_version(ref: str, version: str, desk: AtDesk) -> Response:
    """Return one version of a model."""
    return one(desk.model(f"{ref}/{version}"))


@routes.route("DELETE", "/models/{ref}", "model:write")
def delete_unnamed(ref: str) -> Response:
    """Refuse: which version is to be deleted must be said."""
    right = f"/models/{ref[:100]}/VERSION"
    raise Invalid(f"say which version to delete: {right}", errors=[FieldError("version", right)])


@routes.route("DELETE", "/models/{ref}/{version}", "model:write")
def delete_version(ref: str, version: str, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Delete one version of a model, unless an alias or a service points at it."""

    def verb() -> Changes:
        found = desk.model(f"{ref}/{version}")
        matched(request, found)
        return Changes.of(load("leptonai.registry.verbs:delete_model")(found, desk))

    write(here, verb, Audit.new(name="model.delete", subject=f"{ref}/{version}", by=who.name))
    return Response(status_code=204)


@routes.route("PUT", "/models/{name}/aliases/{alias}", "model:write")
def set_alias(name: str, alias: str, body: Version, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Point an alias at a version; whoever held it holds it no more."""
    spec = SetAlias(alias=alias, version=body.version, override=body.override)

    def verb() -> Changes:
        if request.headers.get("if-match") is not None:
            matched(request, here.catalog.get(Alias, f"{name}@{alias}"))
        return Changes.of(load("leptonai.registry.verbs:set_alias")(name, spec, desk))

    facts = {"version": body.version} | ({"override": body.override} if body.override else {})
    name_of = "alias.override" if body.override else "alias.set"
    write(here, verb, Audit.new(name=name_of, subject=f"{name}@{alias}", by=who.name, facts=facts))
    return one(here.catalog.get(Alias, f"{name}@{alias}"))


@routes.route("DELETE", "/models/{name}/aliases/{alias}", "model:write")
def drop_alias(name: str, alias: str, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Take an alias away; the version it points at stays."""

    def verb() -> Changes:
        changes = Changes.of(load("leptonai.registry.verbs:drop_alias")(name, alias, desk))
        for record in changes.drop:
            matched(request, record)
        return changes

    write(here, verb, Audit.new(name="alias.drop", subject=f"{name}@{alias}", by=who.name))
    return Response(status_code=204)
