"""The prediction logs of Services: batches that Sites hand in, and their end, which comes by age or with their Service."""

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from leptonai.core.errors import Conflict, NotFound
from leptonai.core.nouns import Audit, Blob, Predictions, Service, utcnow
from leptonai.server.context import Context

_PAGE = 200


def batches(here: Context, service: str, since: datetime | None, until: datetime | None) -> list[Predictions]:
    """Return the batches of a Service (its id) that have requests of that time, oldest first."""
    found: list[Predictions] = []
    after = None
    while page := here.catalog.find(Predictions, {"service": service}, limit=_PAGE, after=after):
        found += [one for one in page if (until is None or one.since < until) and (since is None or one.until >= since)]
        after = page[-1].id
        if since is not None and page[-1].created < since - timedelta(hours=1):  # the Site's clock is not ours
            break
    return found[::-1]


def drop(here: Context, found: Sequence[Predictions], by: str = "") -> int:
    """Delete batches with their blobs: first the records and the keys, so that what is left of a blob opens to nobody."""
    for start in range(0, len(found), _PAGE):
        some = found[start : start + _PAGE]
        keys = here.catalog.find(Blob, {"id": tuple(one.blob for one in some)}, limit=_PAGE)
        audit = [
            Audit.new(name="service.predictions.delete", subject=some[0].name, by=by, facts={"batches": len(some)})
        ]
        here.catalog.change(add=audit if by else (), drop=(*some, *keys))
        for one in some:
            here.raw.delete(one.blob)
    return len(found)


def sweep(here: Context) -> int:
    """Delete what is older than its Service keeps it, and what has no Service any more; return how many batches."""
    gone: list[Predictions] = []
    services: dict[str, Service | None] = {}
    after = None
    now = utcnow()
    while page := here.catalog.find(Predictions, limit=_PAGE, after=after):
        for one in page:
            if one.service not in services:
                try:
                    services[one.service] = here.catalog.get(Service, one.service)
                except NotFound:
                    services[one.service] = None
            service = services[one.service]
            if service is None or now - one.until > timedelta(days=service.log.days):
                gone.append(one)
        after = page[-1].id
    with contextlib.suppress(Conflict):  # another server sweeps, too
        return drop(here, gone)
    return 0
