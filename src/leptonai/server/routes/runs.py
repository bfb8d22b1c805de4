"""Runs: asked for by people, reported on by the processes that do them."""

from typing import Annotated, Any, Literal

from fastapi import Header, Query, Request
from pydantic import Field, ValidationError
from starlette.responses import Response, StreamingResponse

from leptonai.core.errors import Invalid
from leptonai.core.nouns import Event, Frozen, Limits, Name, Run
from leptonai.core.stages import Changes, load, stage
from leptonai.core.states import RunState
from leptonai.runs.queue import Asked
from leptonai.server.desk import ServerDesk
from leptonai.server.receipts import Receipts
from leptonai.server.routes.table import AtDesk, Here, Routes, Who
from leptonai.server.stream import run_events
from leptonai.server.wire import Json, invalid, one, page

routes = Routes()


class Submit(Frozen):
    """What is asked for."""

    stage: str
    spec: dict[str, Any]
    name: Annotated[str, Field(max_length=100)] = ""
    parent: str | None = None
    site: Name = "home"
    limits: Limits = Limits()
    max_attempts: int = Field(default=3, ge=1, le=100)


class Report(Frozen):
    """Events of a Run, from the attempt with this epoch."""

    epoch: int
    events: Annotated[tuple[Event, ...], Field(max_length=5000)]


class Saved(Frozen):
    """A checkpoint: its files and the blobs that hold them."""

    epoch: int
    files: dict[str, str]


class Finish(Frozen):
    """How an attempt ended."""

    epoch: int
    state: Literal["succeeded", "failed", "cancelled"]
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    retry: bool = False


@routes.route("POST", "/runs", "stage")
def submit(
    body: Submit, here: Here, who: Who, desk: AtDesk, idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """Ask for a Run."""
    kind = stage(body.stage)
    who.need(kind.permission)
    receipts = Receipts(here.catalog, who.owner, "run.submit", idempotency_key, body)
    if (answer := receipts.known()) is not None:
        return one(here.catalog.get(Run, answer["run"]), 201)
    try:
        spec = load(kind.spec).model_validate(body.spec)
    except ValidationError as error:
        raise invalid(error.errors(), "spec") from error
    if body.parent is not None:
        here.catalog.get(Run, body.parent)
    plan = load(kind.prepare)(spec, desk)
    asked = Asked(kind.name, who.name, body.name, body.site, body.parent, body.limits, body.max_attempts)
    run = receipts.once(
        lambda receipt: here.queue.submit(asked, plan, receipt and (lambda run: receipt({"run": run.id}))),
        lambda answer: here.catalog.get(Run, answer["run"]),
    )
    here.wakes.notify(f"site:{run.site}")
    return one(run, 201)


@routes.route("GET", "/runs", "run:read")
def list_runs(
    here: Here,
    stage: str | None = None,
    state: RunState | None = None,
    parent: str | None = None,
    name: str | None = None,
    site: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> Response:
    """List Runs, newest first."""
    given = {"stage": stage, "state": state, "parent": parent, "name": name, "site": site}
    where = {field: value for field, value in given.items() if value is not None}
    return page(here.catalog.find(Run, where, limit=limit, after=cursor), limit)


@routes.route("GET", "/runs/{id}", "run:read")
def get_run(id: str, here: Here, who: Who) -> Response:
    """Return a Run."""
    who.may_see(id)
    return one(here.catalog.get(Run, id))


@routes.route("POST", "/runs/{id}/cancel", "run:write")
def cancel(id: str, here: Here, who: Who) -> Response:
    """Cancel a Run and its children."""
    run = here.queue.cancel(id, who.name)
    here.wakes.notify(f"run:{id}", f"beat:{run.site}")
    return one(run)


@routes.route("POST", "/runs/{id}/retry", "run:write")
def retry(id: str, here: Here, who: Who) -> Response:
    """Queue a new Run with the same spec."""
    run = here.queue.retry(id, who.name)
    here.wakes.notify(f"site:{run.site}")
    return one(run, 201)


@routes.route("GET", "/runs/{id}/events", "run:read")
def events(
    id: str,
    request: Request,
    here: Here,
    who: Who,
    after: Annotated[int, Query(ge=0)] = 0,
    streams: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> Response:
    """Return what happened in a Run, or stream it while it happens."""
    who.may_see(id)
    here.catalog.get(Run, id)
    wanted = tuple(word.strip() for word in streams.split(",") if word.strip())
    if unknown := set(wanted) - {"metric", "log", "progress", "state"}:
        raise Invalid(f"there is no stream {min(unknown)!r}: use metric, log, progress, state")
    if "text/event-stream" in request.headers.get("accept", ""):
        lines = run_events(here.catalog, here.wakes, id, after, wanted)
        return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    found = here.catalog.series(id, after=after, streams=wanted, limit=limit)
    following = found[-1].seq if len(found) == limit else None
    return Json({"items": [event.model_dump(mode="json") for event in found], "next": following})


@routes.route("POST", "/runs/{id}/events", "run:report")
def append(id: str, body: Report, here: Here, who: Who) -> Response:
    """Add events to a Run, under the epoch of its lease."""
    who.may_report(id)
    seq = here.queue.append(id, body.epoch, body.events)
    here.wakes.notify(f"run:{id}")
    return Json({"seq": seq})


@routes.route("POST", "/runs/{id}/checkpoint", "run:report")
def checkpoint(id: str, body: Saved, here: Here, who: Who) -> Response:
    """Remember a Run's checkpoint, under the epoch of its lease."""
    who.may_report(id)
    return one(here.queue.checkpoint(id, body.epoch, body.files))


@routes.route("POST", "/runs/{id}/finish", "run:report")
def finish(id: str, body: Finish, here: Here, who: Who) -> Response:
    """End a Run, under the epoch of its lease."""
    who.may_report(id)
    run = here.catalog.get(Run, id)
    kind = stage(run.stage)
    settle = None
    if kind.settle is not None:
        verb, desk = load(kind.settle), ServerDesk(here, run.by)

        def settle(ended: Run) -> Changes:
            return Changes.of(verb(ended, body.result or {}, desk))

    ended = here.queue.finish(
        id, body.epoch, RunState(body.state), result=body.result, error=body.error, retry=body.retry, settle=settle
    )
    here.wakes.notify(f"run:{id}", f"site:{run.site}")
    return one(ended)
