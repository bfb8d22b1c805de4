"""Runs: asked for by people, reported on by the processes that do them."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import Field, ValidationError
from starlette.responses import Response, StreamingResponse

from leptonai.core.errors import Conflict, FieldError, Invalid, NotFound
from leptonai.core.nouns import Audit, Event, Frozen, Limits, Name, Run, Site
from leptonai.core.stages import Changes, Plan, load, stage
from leptonai.core.states import RunState
from leptonai.runs.queue import Asked
from leptonai.server import opens
from leptonai.server.context import Context
from leptonai.server.desk import ServerDesk
from leptonai.server.receipts import Receipts
from leptonai.server.routes.table import AtDesk, Cursor, Here, Limit, Once, Routes, Who, Word
from leptonai.server.scopes import REPORT, STAGE
from leptonai.server.stream import run_events
from leptonai.server.wire import Json, invalid, matched, one, page

routes = Routes()
_STREAMS = ("metric", "log", "progress", "state", "trial")

Id = Annotated[str, Field(pattern=r"^[a-z]+_[0-9a-z]{26}$")]
Blob = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Epoch = Annotated[int, Field(ge=0, le=2**31)]


class Submit(Frozen):
    """What is asked for."""

    stage: Annotated[str, Field(max_length=100)]
    spec: dict[str, Any]
    name: Name | Literal[""] = ""
    parent: Id | None = None
    site: Name = "home"
    limits: Limits = Limits()
    max_attempts: int = Field(default=3, ge=1, le=100)


class Report(Frozen):
    """Events of a Run, from the attempt with this epoch."""

    epoch: Epoch
    events: Annotated[tuple[Event, ...], Field(max_length=5000)]


class Saved(Frozen):
    """A checkpoint: its files and the blobs that hold them."""

    epoch: Epoch
    files: Annotated[dict[Annotated[str, Field(max_length=200)], Blob], Field(max_length=1000)]


class Finish(Frozen):
    """How an attempt ended."""

    epoch: Epoch
    state: Literal["succeeded", "failed", "cancelled"]
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    retry: bool = False


@routes.route("POST", "/runs", STAGE)
def submit(body: Submit, here: Here, who: Who, desk: AtDesk, once: Once = None) -> Response:
    """Ask for a Run."""
    kind = stage(body.stage)
    who.need(kind.permission)
    receipts = Receipts(here.catalog, who.owner, "run.submit", once, body)
    if (answer := receipts.known()) is not None:
        return one(here.catalog.get(Run, answer["run"]), 201)
    try:
        spec = load(kind.spec).model_validate(body.spec)
    except ValidationError as error:
        raise invalid(error.errors(), "spec") from error
    if body.parent is not None:
        here.catalog.get(Run, body.parent)
    if not here.catalog.find(Site, {"name": body.site}, limit=1):
        raise NotFound(f"there is no site {body.site!r}: see  lepton site list")
    plan = load(kind.prepare)(spec, desk)
    opens.hand_over(who, here, plan.opens)
    asked = Asked(kind.name, who.name, body.name, body.site, body.parent, body.limits, body.max_attempts)
    return one(_queue(here, asked, plan, receipts), 201)


def _queue(here: Context, asked: Asked, plan: Plan, receipts: Receipts) -> Run:
    return receipts.once(
        lambda receipt: here.queue.submit(asked, plan, receipt and (lambda run: receipt({"run": run.id}))),
        lambda answer: here.catalog.get(Run, answer["run"]),
    )


@routes.route("GET", "/runs", "run:read")
def list_runs(
    here: Here,
    stage: Word = None,
    state: RunState | None = None,
    parent: Word = None,
    name: Word = None,
    site: Word = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List Runs, newest first."""
    given = {"stage": stage, "state": state, "parent": parent, "name": name, "site": site}
    where = {field: value for field, value in given.items() if value is not None}
    return page(partial(here.catalog.find, Run, where), limit, cursor)


@routes.route("GET", "/runs/{id}", "run:read")
def get_run(id: str, here: Here, who: Who) -> Response:
    """Return a Run."""
    run = here.catalog.get(Run, id)
    opens.see(who, here, run)
    return one(run)


@routes.route("POST", "/runs/{id}/cancel", STAGE)
def cancel(id: str, request: Request, here: Here, who: Who) -> Response:
    """Cancel a Run and its children."""
    run = here.catalog.get(Run, id)
    who.need(stage(run.stage).permission)
    matched(request, run)
    return one(here.queue.cancel(id, who.name))


@routes.route("POST", "/runs/{id}/retry", STAGE)
def retry(id: str, here: Here, who: Who, once: Once = None) -> Response:
    """Queue a new Run with the same spec."""
    old = here.catalog.get(Run, id)
    who.need(stage(old.stage).permission)
    receipts = Receipts(here.catalog, who.owner, "run.retry", once, id)
    if (answer := receipts.known()) is not None:
        return one(here.catalog.get(Run, answer["run"]), 201)
    if not old.state.ended:
        raise Conflict(f"run {id} is {old.state}: wait until it has ended, or cancel it first")
    opens.hand_over(who, here, old.opens)
    asked = Asked(old.stage, who.name, old.name, old.site, old.parent, old.limits, old.max_attempts)
    return one(_queue(here, asked, Plan(old.spec, old.opens, old.flavour, old.name, old.workers), receipts), 201)


@routes.route("GET", "/runs/{id}/events", "run:read")
def events(
    id: str,
    request: Request,
    here: Here,
    who: Who,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    streams: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> Response:
    """Return what happened in a Run, or stream it while it happens."""
    opens.see(who, here, here.catalog.get(Run, id))
    wanted = tuple(word.strip() for word in streams.split(",") if word.strip())
    if unknown := set(wanted) - set(_STREAMS):
        right = f"some of {', '.join(_STREAMS)}"
        raise Invalid(f"there is no stream {min(unknown)!r}: use {right}", errors=[FieldError("streams", right)])
    if "text/event-stream" in request.headers.get("accept", ""):
        lines = run_events(here.catalog, here.wakes, id, after, wanted)
        return StreamingResponse(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
    found = here.catalog.series(id, after=after, streams=wanted, limit=limit)
    following = found[-1].seq if len(found) == limit else None
    return Json({"items": [event.model_dump(mode="json") for event in found], "next": following})


@routes.route("POST", "/runs/{id}/events", REPORT)
def append(id: str, body: Report, here: Here, who: Who) -> Response:
    """Add events to a Run, under the epoch of its lease."""
    opens.report(who, here, id)
    return Json({"seq": here.queue.append(id, body.epoch, body.events)})


@routes.route("POST", "/runs/{id}/checkpoint", REPORT)
def checkpoint(id: str, body: Saved, here: Here, who: Who) -> Response:
    """Remember a Run's checkpoint, under the epoch of its lease."""
    opens.report(who, here, id)
    return one(here.queue.checkpoint(id, body.epoch, body.files))


@routes.route("POST", "/runs/{id}/finish", REPORT)
def finish(id: str, body: Finish, here: Here, who: Who) -> Response:
    """End a Run, under the epoch of its lease."""
    opens.report(who, here, id)
    run = here.catalog.get(Run, id)
    verb = stage(run.stage).settle

    def settle(ended: Run) -> Changes:
        changes = Changes.of(load(verb or "")(ended, body.result or {}, ServerDesk(here, run.by)))
        made = [
            Audit.new(name=f"{record.kind}.create", subject=record.name, by=run.by, facts={"id": record.id, "run": id})
            for record in changes.add
        ]
        return changes._replace(add=(*changes.add, *made))

    ended = here.queue.finish(
        id,
        body.epoch,
        RunState(body.state),
        result=body.result,
        error=body.error,
        retry=body.retry,
        settle=settle if verb is not None else None,
    )
    return one(ended)
