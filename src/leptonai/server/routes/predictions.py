"""Prediction logs: what a Site hands in, and who may read it."""

import hashlib
import json
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import Query, Request
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from leptonai.core.errors import Denied, Invalid, NotFound
from leptonai.core.nouns import Audit, Blob, Frozen, PredictionLog, Predictions, Service
from leptonai.core.stages import Changes
from leptonai.server import predictions, uploads
from leptonai.server.context import Context
from leptonai.server.routes.table import Here, Routes, Who
from leptonai.server.wire import Json, dump, matched, one
from leptonai.server.writing import write

routes = Routes()

Moment = Annotated[AwareDatetime | None, Query()]


class Handed(Frozen):
    """A batch that a Site has sealed and stored."""

    service: Annotated[str, Field(pattern=r"^svc_[0-9a-z]{26}$")]
    model: Annotated[str, Field(max_length=100)]
    blob: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    rows: Annotated[int, Field(ge=1, lt=2**31)]
    bytes: Annotated[int, Field(ge=1, lt=2**40)]
    since: AwareDatetime
    until: AwareDatetime
    dropped: Annotated[int, Field(ge=0, lt=2**31)] = 0


def _service(here: Context, name: str) -> Service:
    found = here.catalog.find(Service, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no service {name!r}: see  lepton service list")
    return found[0]


def _wanted(here: Context, site: str) -> dict[str, Any]:
    """Return what the Site is to keep of each Service: the log as it was asked for, and the salt of its digests."""
    items, after = [], None
    while page := here.catalog.find(Service, {"site": site}, after=after):
        for service in page:
            salt = here.keyfile.digest("prediction", service.id) if service.log.hash else ""
            items.append({"id": service.id, "name": service.name, "log": dump(service)["log"], "salt": salt})
        after = page[-1].id
    text = json.dumps(items, sort_keys=True).encode()
    return {"fingerprint": hashlib.sha256(text).hexdigest()[:32], "logs": items}


@routes.route("GET", "/sites/{site}/logs", "site:agent")
async def logs(
    site: str,
    here: Here,
    who: Who,
    after: Annotated[str, Query(max_length=200)] = "",
    wait: Annotated[float, Query(ge=0, le=60)] = 0,
) -> Response:
    """Return what a Site keeps of its Services' requests; waits until that differs from `after`, or the time is up."""
    who.need_site(site)

    async def look() -> dict[str, Any] | None:
        found = await run_sync(_wanted, here, site)
        return found if found["fingerprint"] != after else None

    found = await here.wakes.until(f"services:{site}", look, wait)
    return Json(found or await run_sync(_wanted, here, site))


@routes.route("POST", "/sites/{site}/predictions", "site:agent")
def hand_in(site: str, body: Handed, here: Here, who: Who) -> Response:
    """Add a batch to the prediction log of a Service: its Site's agent does."""
    who.need_site(site)
    service = here.catalog.get(Service, body.service)
    if service.site != site:
        raise Denied(f"service {service.name} is at site {service.site}, not {site}", permission="site:agent")
    blob = here.catalog.get(Blob, body.blob)
    if blob.owner != who.owner:
        raise Denied(f"blob {body.blob} is not one that {who.name} has written", permission="*")
    record = Predictions.new(name=service.name, by=who.name, **body.model_dump())
    here.catalog.add(record)
    return one(record, 201)


@routes.route("GET", "/services/{name}/predictions", "prediction:read")
def list_predictions(name: str, here: Here, since: Moment = None, until: Moment = None) -> Response:
    """List the batches of a Service's prediction log that have requests of that time, oldest first."""
    found = predictions.batches(here, _service(here, name).id, since, until)
    return Json({"items": [dump(record) for record in found]})


@routes.route("GET", "/services/{name}/predictions/{id}", "prediction:read")
async def read_predictions(name: str, id: str, here: Here, who: Who) -> Response:
    """Return a batch as Parquet."""
    record = await run_sync(here.catalog.get, Predictions, id)
    if record.name != name:
        raise NotFound(f"service {name} has no batch {id}")
    return await uploads.answer(lambda: here.sealed(who.owner).open(record.blob), record.bytes)


@routes.route("DELETE", "/services/{name}/predictions", "service:write")
def delete_predictions(name: str, here: Here, who: Who, before: Moment = None) -> Response:
    """Delete the batches of a Service's prediction log, or those that ended before a time."""
    found = predictions.batches(here, _service(here, name).id, None, None)
    gone = [record for record in found if before is None or record.until < before]
    return Json({"deleted": predictions.drop(here, gone, by=who.name)})


@routes.route("PUT", "/services/{name}/log", "service:write")
def set_log(name: str, body: PredictionLog, request: Request, here: Here, who: Who) -> Response:
    """Say what is kept of the requests of a Service."""
    both = set(body.drop) & set(body.hash)
    if both:
        raise Invalid(f"{', '.join(sorted(both))} cannot be both dropped and hashed: choose one")

    def verb() -> Changes:
        service = _service(here, name)
        matched(request, service)
        return Changes(change=(service.model_copy(update={"log": body}),))

    facts = body.model_dump(mode="json")
    write(here, verb, Audit.new(name="service.log", subject=name, by=who.name, facts=facts))
    return one(_service(here, name))
