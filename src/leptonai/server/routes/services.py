"""Services."""

from functools import partial

from fastapi import Request
from starlette.responses import Response

from leptonai.core.errors import NotFound, Stale
from leptonai.core.nouns import Audit, Record, Service, ServiceStatus
from leptonai.core.stages import Changes, load
from leptonai.server.context import Context
from leptonai.server.receipts import Make, Receipts
from leptonai.server.routes.table import AtDesk, Cursor, Here, Limit, Once, Routes, Who, Word
from leptonai.server.wire import matched, one, page
from leptonai.server.writing import write
from leptonai.serving.spec import Deploy

routes = Routes()


def _service(here: Context, name: str) -> Service:
    found = here.catalog.find(Service, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no service {name!r}: see  lepton service list")
    return found[0]


@routes.route("POST", "/services", "service:write")
def deploy(body: Deploy, request: Request, here: Here, desk: AtDesk, who: Who, once: Once = None) -> Response:
    """Make a model version answer under a name; an existing service moves to it."""
    receipts = Receipts(here.catalog, who.owner, "service.deploy", once, body)
    if receipts.known() is not None:
        return one(_service(here, body.name), 201)

    def verb() -> Changes:
        changes = Changes.of(load("leptonai.serving.verbs:deploy")(body, desk))
        for record in changes.change:
            matched(request, record)
        return changes

    def effect(receipt: Make | None) -> Service:
        facts = {"model": body.model} | ({} if body.public is None else {"public": body.public})
        audit = Audit.new(name="service.deploy", subject=body.name, by=who.name, facts=facts)
        more: tuple[Record, ...] = () if receipt is None else (receipt({"service": body.name}),)
        write(here, verb, audit, more=more, settled=lambda: receipts.known() is not None)
        return _service(here, body.name)

    service = receipts.once(effect, lambda _: _service(here, body.name))
    here.wakes.notify(f"services:{service.site}")
    return one(service, 201)


@routes.route("GET", "/services", "service:read")
def list_services(
    here: Here, site: Word = None, name: Word = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List Services, newest first."""
    where = {field: value for field, value in {"site": site, "name": name}.items() if value is not None}
    return page(partial(here.catalog.find, Service, where), limit, cursor)


@routes.route("GET", "/services/{name}", "service:read")
def get_service(name: str, here: Here) -> Response:
    """Return a Service, with what its Site last said of it."""
    return one(_service(here, name))


@routes.route("DELETE", "/services/{name}", "service:write")
def delete_service(name: str, request: Request, here: Here, who: Who) -> Response:
    """Take a Service away."""

    def verb() -> Changes:
        service = _service(here, name)
        matched(request, service)
        return Changes.of(load("leptonai.serving.verbs:delete")(service))

    changes = write(here, verb, Audit.new(name="service.delete", subject=name, by=who.name))
    here.wakes.notify(*(f"services:{service.site}" for service in changes.drop))
    return Response(status_code=204)


@routes.route("PUT", "/services/{name}/status", "site:agent")
def report(name: str, body: ServiceStatus, here: Here, who: Who) -> Response:
    """Say how a Service stands: its Site's agent does."""
    for last in (False, False, False, True):
        service = _service(here, name)
        who.need_site(service.site)
        if body.rev < service.status.rev or body == service.status:
            break  # it speaks of an earlier deploy, or says nothing new
        try:
            here.catalog.change(service.model_copy(update={"status": body}))
        except Stale:
            if last:
                raise
            continue
        break
    return one(_service(here, name))
