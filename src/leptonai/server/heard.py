"""A Catalog of which whoever waits hears: what is written through it wakes him at once."""

from collections.abc import Callable, Sequence
from datetime import datetime

from leptonai.core.nouns import Event, Record, Run, Service
from leptonai.core.ports import Catalog
from leptonai.core.states import RunState
from leptonai.server.stream import Wakes


class HeardCatalog:
    """Another Catalog, whose writes are told; see `leptonai.core.ports.Catalog` for the promise.

    Topics: ``run:ID`` for a move or an event of a Run, ``site:NAME`` where one waits for an agent, ``services:SITE``.
    """

    def __init__(self, catalog: Catalog, wakes: Wakes):
        self._catalog = catalog
        self._wakes = wakes
        self.get, self.find, self.series = catalog.get, catalog.find, catalog.series  # reading is no news
        self.close: Callable[[], None] = getattr(catalog, "close", lambda: None)

    def add(self, *records: Record) -> None:
        """See the port."""
        self._catalog.add(*records)
        self._tell(*records)

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
