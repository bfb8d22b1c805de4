"""Services."""

from typing import Annotated

from fastapi import Header, Query, Request
from starlette.responses import Response

from leptonai.core.errors import Conflict, NotFound, Stale
from leptonai.core.nouns import Audit, Service, ServiceStatus
from leptonai.core.stages import load
from leptonai.server.context import Context
from leptonai.server.receipts import Make, Receipts
from leptonai.server.routes.table import AtDesk, Here, Routes, Who
from leptonai.server.wire import matched, one, page
from leptonai.serving.spec import Deploy

routes = Routes()


def _service(here: Context, name: str) -> Service:
    found = here.catalog.find(Service, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no service {name!r}: see  lepton service list")
    return found[0]


@routes.route("POST", "/services", "service:write")
def deploy(
    body: Deploy, here: Here, desk: AtDesk, who: Who, idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """Make a model version answer under a name; an existing service moves to it."""
    receipts = Receipts(here.catalog, who.owner, "service.deploy", idempotency_key, body)
    if receipts.known() is not None:
        return one(_service(here, body.name), 201)

    def effect(receipt: Make | None) -> Service:
        audit = Audit.new(name="service.deploy", subject=body.name, by=who.name, facts={"model": body.model})
        more = (audit,) if receipt is None else (audit, receipt({"service": body.name}))
        for last in (False, False, False, True):
            changes = load("leptonai.serving.verbs:deploy")(body, desk)
            try:
                here.catalog.change(*changes.change, add=(*changes.add, *more), drop=changes.drop)
            except Conflict:
                if last or receipts.known() is not None:
                    raise
                continue
            break
        return _service(here, body.name)

    service = receipts.once(effect, lambda _: _service(here, body.name))
    here.wakes.notify(f"services:{service.site}")
    return one(service, 201)


@routes.route("GET", "/services", "service:read")
def list_services(
    here: Here,
    site: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> Response:
    """List Services."""
    return page(here.catalog.find(Service, {"site": site} if site else {}, limit=limit, after=cursor), limit)


@routes.route("GET", "/services/{name}", "service:read")
def get_service(name: str, here: Here) -> Response:
    """Return a Service, with what its Site last said of it."""
    return one(_service(here, name))


@routes.route("DELETE", "/services/{name}", "service:write")
def delete_service(name: str, request: Request, here: Here, who: Who) -> Response:
    """Take a Service away."""
    wanted = request.headers.get("if-match")
    for last in (False, False, False, True):
        service = _service(here, name)
        matched(request, service)
        audit = Audit.new(name="service.delete", subject=name, by=who.name)
        try:
            here.catalog.change(add=(audit,), drop=(service,))
        except Stale:
            if last or wanted is not None:
                raise
            continue
        break
    here.wakes.notify(f"services:{service.site}")
    return Response(status_code=204)


@routes.route("PUT", "/services/{name}/status", "site:agent")
def report(name: str, body: ServiceStatus, here: Here) -> Response:
    """Say how a Service stands: its Site's agent does."""
    for last in (False, False, False, True):
        service = _service(here, name)
        if body.rev < service.status.rev:
            break  # it speaks of an earlier deploy
        try:
            here.catalog.change(service.model_copy(update={"status": body}))
        except Stale:
            if last:
                raise
            continue
        break
    return one(_service(here, name))
