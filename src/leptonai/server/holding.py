"""Which blobs records name: those must stay. What names none is left of cut uploads, imports and deleted versions."""

import re
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from leptonai.core.nouns import RECORDS, Audit, Blob, Dataset, Key, Receipt, Record, Run, utcnow
from leptonai.core.ports import Catalog
from leptonai.core.stages import STAGES

R = TypeVar("R", bound=Record)
_PAGE = 500
_ID = re.compile(r"[0-9a-f]{64}")
_NAME_NONE = (Audit, Blob, Dataset, Key, Receipt, Run)  # and a Dataset and a Run by rules of their own, below


class Held(NamedTuple):
    """What must stay."""

    blobs: frozenset[str]
    since: datetime  # when the oldest Run was asked for that goes on: what was written later may be its


def every(catalog: Catalog, kind: type[R]) -> Iterator[R]:
    """Yield all records of a kind."""
    after = None
    while page := catalog.find(kind, limit=_PAGE, after=after):
        yield from page
        after = page[-1].id


def of_version(dataset: Dataset) -> tuple[str, ...]:
    """Return the blobs of a dataset version."""
    return (dataset.manifest, *dataset.pii, *dataset.shards)


def held(catalog: Catalog) -> Held:
    """Look at all records. Whatever looks like the id of a blob is taken for one: better one too many."""
    blobs: set[str] = set()
    since = utcnow()
    for run in every(catalog, Run):  # first: what a Run that ends meanwhile made is in the records read later
        blobs.update(_of_run(run))
        if not run.state.ended:
            since = min(since, run.created)
    for dataset in every(catalog, Dataset):
        blobs.update(of_version(dataset))
    for kind in RECORDS:
        if kind not in _NAME_NONE:
            for record in every(catalog, kind):
                blobs.update(_ID.findall(record.model_dump_json()))
    return Held(frozenset(blobs), since)


def _of_run(run: Run) -> Iterable[str]:
    if not run.state.ended:
        return _ID.findall(run.model_dump_json())
    kind = STAGES.get(run.stage)
    if kind is not None and kind.permission == "dataset:write":
        # What it read is of no use any more, and what it made is the version's: of that only a report is its own.
        return words((run.result or {}).get("report"))
    return [*words(run.spec), *words(run.result)]


def words(value: Any) -> Iterator[str]:
    """Yield whatever looks like the id of a blob in JSON data."""
    if isinstance(value, str):
        yield from _ID.findall(value)
    elif isinstance(value, dict):
        for one in value.values():
            yield from words(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from words(one)


def only_of(catalog: Catalog, versions: Collection[Dataset]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the blobs that only these versions name, and those that others share."""
    ids = {version.id for version in versions}
    others: set[str] = set()
    for dataset in every(catalog, Dataset):
        if dataset.id not in ids:
            others.update(of_version(dataset))
    mine = dict.fromkeys(blob for version in versions for blob in of_version(version))
    return tuple(blob for blob in mine if blob not in others), tuple(blob for blob in mine if blob in others)
