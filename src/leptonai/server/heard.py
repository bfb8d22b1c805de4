"""A Catalog of which whoever waits hears: what is written through it wakes him at once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from leptonai.core.nouns import Event, Record, Run, Service
from leptonai.core.ports import Catalog
from leptonai.core.states import RunState
from leptonai.server.stream import Wakes

R = TypeVar("R", bound=Record)


class HeardCatalog:
    """Another Catalog, whose writes are told; see `leptonai.core.ports.Catalog` for the promise.

    Topics: ``run:ID`` for a move or an event of a Run, ``site:NAME`` where one waits for an agent, ``services:SITE``.
    """

    def __init__(self, catalog: Catalog, wakes: Wakes):
        self._catalog = catalog
        self._wakes = wakes

    def close(self) -> None:
        """Close the other one, where it can be closed."""
        close = getattr(self._catalog, "close", None)
        if close is not None:
            close()

    def add(self, *records: Record) -> None:
        """See the port."""
        self._catalog.add(*records)
        self._tell(*records)

    def get(self, kind: type[R], id: str) -> R:
        """See the port."""
        return self._catalog.get(kind, id)

    def find(
        self,
        kind: type[R],
        where: Mapping[str, Any] | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        oldest_first: bool = False,
    ) -> list[R]:
        """See the port."""
        return self._catalog.find(kind, where, limit=limit, after=after, oldest_first=oldest_first)

    def change(self, *records: Record, add: Sequence[Record] = (), drop: Sequence[Record] = ()) -> None:
        """See the port."""
        self._catalog.change(*records, add=add, drop=drop)
        self._tell(*records, *add, *drop)

    def claim(self, site: str, agent: str, lease_seconds: float, now: datetime, token: str) -> Run | None:
        """See the port."""
        run = self._catalog.claim(site, agent, lease_seconds, now, token)
        if run is not None:
            self._wakes.notify(f"run:{run.id}")
        return run

    def append(self, run: str, epoch: int, events: Sequence[Event]) -> int:
        """See the port."""
        seq = self._catalog.append(run, epoch, events)
        self._wakes.notify(f"run:{run}")
        return seq

    def series(self, run: str, *, after: int = 0, streams: Sequence[str] = (), limit: int = 1000) -> list[Event]:
        """See the port."""
        return self._catalog.series(run, after=after, streams=streams, limit=limit)

    def _tell(self, *records: Record) -> None:
        topics = {topic for record in records for topic in _topics(record)}
        if topics:
            self._wakes.notify(*topics)


def _topics(record: Record) -> tuple[str, ...]:
    if isinstance(record, Service):
        return (f"services:{record.site}",)
    if not isinstance(record, Run) or record.state is RunState.RUNNING:  # a lease that is renewed is no news
        return ()
    return (f"run:{record.id}", f"site:{record.site}") if record.state is RunState.QUEUED else (f"run:{record.id}",)
