"""Services."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import Request
from starlette.responses import Response

from leptonai.core.errors import Busy, NotFound, Stale, Unsupported
from leptonai.core.nouns import Audit, Memory, Record, Service, ServiceStatus
from leptonai.core.stages import Changes, load
from leptonai.server import access_log
from leptonai.server.context import Context
from leptonai.server.memory import replicas, shown
from leptonai.server.receipts import Make, Receipts
from leptonai.server.routes.table import AtDesk, Cursor, Here, Limit, Once, Routes, Who, Word
from leptonai.server.wire import Json, matched, one, page
from leptonai.server.writing import write
from leptonai.serving.rollout import Move
from leptonai.serving.spec import Deploy, Range, Split, Trial

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
        facts: dict[str, Any] = {"model": body.model, "strategy": body.strategy}
        facts |= {} if body.public is None else {"public": body.public}
        facts |= {} if body.pin is None else {"pin": body.pin}
        facts |= {} if body.replicas is None else {"replicas": str(body.replicas)}
        audit = Audit.new(name="service.deploy", subject=body.name, by=who.name, facts=facts)
        more: tuple[Record, ...] = () if receipt is None else (receipt({"service": body.name}),)
        write(here, verb, audit, more=more, settled=lambda: receipts.known() is not None)
        return _service(here, body.name)

    return one(receipts.once(effect, lambda _: _service(here, body.name)), 201)


@routes.route("GET", "/services", "service:read")
def list_services(
    here: Here, site: Word = None, name: Word = None, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List Services, newest first."""
    where = {field: value for field, value in {"site": site, "name": name}.items() if value is not None}

    def find(limit: int, after: str | None) -> list[Service]:
        return shown(here.catalog.find(Service, where, limit=limit, after=after), here.catalog)

    return page(find, limit, cursor)


@routes.route("GET", "/services/{name}", "service:read")
def get_service(name: str, here: Here) -> Response:
    """Return a Service, with what its Site last said of it."""
    return one(shown([_service(here, name)], here.catalog)[0])


@routes.route("DELETE", "/services/{name}", "service:write")
def delete_service(name: str, request: Request, here: Here, who: Who) -> Response:
    """Take a Service away."""

    def verb() -> Changes:
        service = _service(here, name)
        matched(request, service)
        return Changes.of(load("leptonai.serving.verbs:delete")(service))

    write(here, verb, Audit.new(name="service.delete", subject=name, by=who.name))
    return Response(status_code=204)


def _changed(
    here: Context, request: Request, verb: Callable[[], Changes], action: str, name: str, by: str, **facts: Any
) -> Response:
    """Carry out a verb that changes one Service, and answer with it."""

    def checked() -> Changes:
        changes = verb()
        for record in changes.change:
            matched(request, record)
        return changes

    write(here, checked, Audit.new(name=action, subject=name, by=by, facts=facts))
    return one(_service(here, name))


@routes.route("GET", "/services/{name}/access-log", "service:read")
def read_access_log(name: str, here: Here, after: Word = None, limit: Limit = 50) -> Response:
    """Return the last lines of a Service's access log, oldest first; `after`: those of that time and later."""
    service = _service(here, name)
    if service.site != "home" or here.home is None:
        raise Unsupported(
            f"service {name} is at site {service.site}: its access log lies there, in logs/access-N.jsonl"
        )
    return Json({"items": access_log.lines(here.home, name, after or "", limit)})


@routes.route("PUT", "/services/{name}/memory", "service:write")
def keep(name: str, body: Memory, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Say what a Service keeps in the memory of its Site: whether its model is pinned, and when it may leave."""
    verb = partial(load("leptonai.serving.pinning:keep"), name, body, desk)
    return _changed(here, request, verb, "service.memory", name, who.name, **body.model_dump(mode="json"))


@routes.route("GET", "/services/{name}/replicas", "service:read")
def get_replicas(name: str, here: Here) -> Response:
    """Return how many replicas a Service may have, how many there are, and what changed last and why."""
    return Json(replicas(_service(here, name), here.catalog))


@routes.route("PUT", "/services/{name}/replicas", "service:write")
def put_replicas(name: str, body: Range, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Say how many replicas a Service may have; without a range as many as its version says."""
    verb = partial(load("leptonai.serving.replicas:ask"), name, body.replicas, desk)
    return _changed(here, request, verb, "service.replicas", name, who.name, **body.model_dump(mode="json"))


@routes.route("PUT", "/services/{name}/variants", "service:write")
def split(name: str, body: Split, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Divide the requests of a Service between versions by hand."""
    verb = partial(load("leptonai.serving.verbs:split"), name, body, desk)
    return _changed(here, request, verb, "service.split", name, who.name, **body.model_dump(mode="json"))


@routes.route("POST", "/services/{name}/test", "service:write")
def test(name: str, body: Trial, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Try a version against the one that answers; it ends by itself with a winner, or without."""
    verb = partial(load("leptonai.serving.verbs:test"), name, body, desk)
    return _changed(here, request, verb, "service.test", name, who.name, **body.model_dump(mode="json"))


@routes.route("POST", "/services/{name}/promote", "service:write")
def promote(name: str, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Have the new version answer all requests, whatever was seen of it."""
    return _changed(
        here, request, partial(load("leptonai.serving.verbs:promote"), name, desk), "service.promote", name, who.name
    )


@routes.route("POST", "/services/{name}/rollback", "service:write")
def rollback(name: str, request: Request, here: Here, desk: AtDesk, who: Who) -> Response:
    """Have the version before answer all requests again."""
    return _changed(
        here, request, partial(load("leptonai.serving.verbs:rollback"), name, desk), "service.rollback", name, who.name
    )


@routes.route("GET", "/services/{name}/why", "service:read")
def why(name: str, here: Here, desk: AtDesk) -> Response:
    """Tell in sentences what became of the last rollout and why, with figures."""
    return Json(load("leptonai.serving.why:tell")(_service(here, name), desk))


@routes.route("PUT", "/services/{name}/rollout", "site:agent")
def move(name: str, body: Move, here: Here, desk: AtDesk, who: Who) -> Response:
    """Move a rollout on: its Site's agent does, by what it counted."""
    service = _service(here, name)
    who.need_site(service.site)
    for _ in range(5):
        changes = load("leptonai.serving.verbs:move")(name, body, desk)
        with contextlib.suppress(Stale):
            here.catalog.change(*changes.change, add=changes.add)
            break
    else:
        raise Busy(f"service {name} changes too fast: try again", retry_after=1.0)
    return one(_service(here, name))


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
