"""Garbage collection: blobs that no record names are forgotten once they are older than a lease.

First the record with the key, only if nobody touched it since it was read, then the bytes: what is left of a sweep that was cut opens
to nobody, and goes with the next one.
"""

import contextlib
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from leptonai.core.errors import NotFound, Stale
from leptonai.core.nouns import Audit, Blob, utcnow
from leptonai.core.ports import Catalog, Store
from leptonai.server import holding

LEASE = timedelta(hours=24)  # in which what was uploaded waits for whoever names it
SKEW = timedelta(minutes=5)  # by which the store's clock may be behind ours


class Swept(NamedTuple):
    """What a sweep did, or would do."""

    blobs: int
    bytes: int
    kept: int  # that are named by no record, and are not old enough


def sweep(catalog: Catalog, raw: Store, by: str, *, lease: timedelta = LEASE, dry_run: bool = False) -> Swept:
    """Forget what no record names and is older than the lease."""
    names = holding.held(catalog)
    before = min(utcnow() - lease, names.since) - SKEW
    found = kept = size = 0
    gone: set[str] = set()
    for record in holding.every(catalog, Blob):
        if len(record.id) != 64 or record.id in names.blobs:
            continue
        if record.updated >= before:
            kept += 1
            gone.add(record.id)
        elif dry_run or _drop(catalog, record):
            gone.add(record.id)
            found, size = found + 1, size + record.size
            if not dry_run:
                raw.delete(record.id)
    for blob in raw.list():
        if blob.id in names.blobs or blob.id in gone or _is_known(catalog, blob.id):
            continue
        if _written(raw, blob.id) >= before:
            kept += 1
            continue
        found, size = found + 1, size + blob.size
        if not dry_run:
            raw.delete(blob.id)
    if found and not dry_run:
        catalog.add(Audit.new(name="blobs.sweep", subject="blobs", by=by, facts={"blobs": found, "bytes": size}))
    return Swept(found, size, kept)


def _drop(catalog: Catalog, record: Blob) -> bool:
    with contextlib.suppress(Stale):  # somebody names it just now
        catalog.change(drop=(record,))
        return True
    return False


def _is_known(catalog: Catalog, blob: str) -> bool:
    try:
        catalog.get(Blob, blob)
    except NotFound:
        return False
    return True


def _written(raw: Any, blob: str) -> datetime:
    try:
        found: datetime = raw.written(blob)
    except NotFound:
        return utcnow()
    return found
