"""Sites: what an agent asks and says."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from anyio.to_thread import run_sync
from fastapi import Query, Request
from pydantic import Field
from starlette.responses import Response

from leptonai.core.errors import Conflict, NotFound
from leptonai.core.nouns import Audit, Frozen, Model, Name, Service, Site, utcnow
from leptonai.core.replicas import Scaled
from leptonai.runs.queue import Claim
from leptonai.server.callers import LOOK_SECONDS, TOPIC
from leptonai.server.context import Context
from leptonai.server.memory import SCALED
from leptonai.server.routes.table import Cursor, Here, Limit, Routes, Who
from leptonai.server.stream import POLL_SECONDS
from leptonai.server.wire import Json, dump, one, page

routes = Routes()
_AT_ONCE = 500  # records that are read together
_PAUSES = 20  # times what a look takes, before the next one
_SEEN_EVERY = timedelta(seconds=5)
Absence = Literal["cold", "idle", "unloaded"]  # why the model of a Service is not in memory
T = TypeVar("T", bound=Mapping[str, Any])


class Ask(Frozen):
    """An agent asks for work."""

    agent: Annotated[str, Field(min_length=1, max_length=200)]
    wait_seconds: float = Field(default=20, ge=0, le=60)


class Held(Frozen):
    """A Run that an agent works on."""

    id: Annotated[str, Field(pattern=r"^[a-z]+_[0-9a-z]{26}$")]
    epoch: Annotated[int, Field(ge=0, le=2**31)]


class Change(Frozen):
    """The number of a Service's workers became another one."""

    service: Name
    text: Annotated[str, Field(max_length=600)]
    before: Annotated[int, Field(ge=0, le=4096)]
    after: Annotated[int, Field(ge=0, le=4096)]


class Beat(Frozen):
    """An agent says what it holds."""

    agent: Annotated[str, Field(min_length=1, max_length=200)]
    runs: Annotated[tuple[Held, ...], Field(max_length=1000)] = ()
    plane: Annotated[str, Field(max_length=500)] | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    absent: Annotated[dict[Name, Absence], Field(max_length=100_000)] | None = None  # None: as it was
    scaled: Annotated[dict[Name, Scaled], Field(max_length=100_000)] | None = None  # the same
    changes: Annotated[tuple[Change, ...], Field(max_length=1000)] = ()


def _site(here: Context, name: str) -> Site:
    found = here.catalog.find(Site, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no site {name!r}")
    return found[0]


@routes.route("GET", "/sites", "site:read")
def list_sites(here: Here, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List Sites."""
    return page(partial(here.catalog.find, Site), limit, cursor)


@routes.route("GET", "/sites/{site}", "site:read")
def get_site(site: str, here: Here) -> Response:
    """Return a Site."""
    return one(_site(here, site))


@routes.route("POST", "/sites/{site}/claim", "site:agent")
async def claim(site: str, body: Ask, here: Here, who: Who, request: Request) -> Response:
    """Ask for a Run; waits until there is one, or the time is up (204)."""
    who.need_site(site)
    await run_sync(_site, here, site)

    async def look() -> Claim | None:
        return await run_sync(here.queue.claim, site, body.agent)

    found = await here.wakes.until(f"site:{site}", look, body.wait_seconds)
    if found is None:
        return Response(status_code=204)
    if await request.is_disconnected():
        # Nobody is there to take it: give it back at once instead of letting its lease run out.
        await run_sync(lambda: here.queue.give_back(found.run))
        return Response(status_code=204)
    return Json({"run": dump(found.run), "token": found.token, "store_url": here.reach(site)})


@routes.route("POST", "/sites/{site}/heartbeat", "site:agent")
def heartbeat(site: str, body: Beat, here: Here, who: Who) -> Response:
    """Renew the leases of an agent's Runs, and learn which to stop."""
    who.need_site(site)
    record = _site(here, site)
    now = utcnow()
    news: dict[str, Any] = {}
    if body.plane is not None and body.plane != record.plane:
        news["plane"] = body.plane
    if body.facts and body.facts != record.facts:
        news["facts"] = body.facts
    if body.absent is not None and body.absent != record.absent:
        news["absent"] = body.absent
    if body.scaled is not None and body.scaled != record.scaled:
        news["scaled"] = body.scaled
    audit = [
        Audit.new(name=SCALED, subject=change.service, by=who.name, facts=change.model_dump(exclude={"service"}))
        for change in body.changes
        if here.catalog.find(Service, {"name": change.service, "site": site}, limit=1)
    ]
    if audit:
        here.catalog.add(*audit)
    if news or record.seen is None or now - record.seen > _SEEN_EVERY:
        with contextlib.suppress(Conflict):  # another server or agent said it just now
            here.catalog.change(record.model_copy(update={**news, "seen": now}))
    answers = here.queue.heartbeat(body.agent, [(held.id, held.epoch) for held in body.runs])
    return Json({"runs": answers})


def _wanted(here: Context, site: str) -> dict[str, Any]:
    """Return the Services of a Site, with a fingerprint of what its agent has to know of them."""
    services: list[Service] = []
    after = None
    while found := here.catalog.find(Service, {"site": site}, limit=_AT_ONCE, after=after):
        services += found
        after = found[-1].id
    # A status report is no news to the agent that made it: it leaves `status.rev` as the last deploy set it.
    print_of = ";".join(
        sorted(
            f"{s.id}:{s.stopped}:{s.public}:{s.memory}:{s.replicas!r}:{s.status.rev}:{[(v.name, v.model, v.percent) for v in s.variants]}"
            f":{s.sticky}:{None if s.rollout is None else (s.rollout.id, s.rollout.phase, s.rollout.step)}"
            for s in services
        )
    )
    return {"fingerprint": hashlib.sha256(print_of.encode()).hexdigest()[:32], "services": services}


def _with_models(here: Context, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same as it is sent, with the Models that the Services name."""
    named = {s.id: dict.fromkeys([*(v.model for v in s.variants), *s.status.live]) for s in found["services"]}
    ids = list(dict.fromkeys(id for each in named.values() for id in each))
    models: dict[str, Any] = {}
    for start in range(0, len(ids), _AT_ONCE):
        some = tuple(ids[start : start + _AT_ONCE])
        models |= {model.id: dump(model) for model in here.catalog.find(Model, {"id": some}, limit=_AT_ONCE)}
    items = [
        {"service": dump(s), "models": [models[id] for id in named[s.id] if id in models]} for s in found["services"]
    ]
    return {**found, "services": items}


After = Annotated[str, Query(max_length=200)]
Wait = Annotated[float, Query(ge=0, le=60)]


async def _news(
    read: Callable[[], T],
    topic: str,
    here: Context,
    after: str,
    wait: float,
    every: float = POLL_SECONDS,
    whole: Callable[[T], Mapping[str, Any]] = lambda found: found,
) -> Json:
    """Answer with what `read` returns, made `whole`; waits until its fingerprint is not `after`, or the time is up. `every` so
    many seconds it is looked at also when this server heard of nothing, or more rarely where looking takes long.
    """

    async def look() -> T | None:
        found = await run_sync(read)
        return found if found["fingerprint"] != after else None

    start = time.perf_counter()
    found = await look()
    if found is None:
        pause = max(every, _PAUSES * (time.perf_counter() - start))
        found = await here.wakes.until(topic, look, wait, pause)
    latest: T = found if found is not None else await run_sync(read)
    return Json(await run_sync(lambda: whole(latest)))


@routes.route("GET", "/sites/{site}/services", "site:agent")
async def services(site: str, here: Here, who: Who, after: After = "", wait: Wait = 0) -> Response:
    """Return the Services of a Site; waits until they differ from `after`, or the time is up."""
    who.need_site(site)
    await run_sync(_site, here, site)
    whole = partial(_with_models, here)
    return await _news(partial(_wanted, here, site), f"services:{site}", here, after, wait, whole=whole)


@routes.route("GET", "/sites/{site}/keys", "site:agent")
async def keys(site: str, here: Here, who: Who, after: After = "", wait: Wait = 0) -> Response:
    """Return which keys may call the Services of a Site; waits until they differ from `after`, or the time is up."""
    who.need_site(site)
    await run_sync(_site, here, site)
    return await _news(partial(here.callers.of, site), TOPIC, here, after, wait, LOOK_SECONDS)
