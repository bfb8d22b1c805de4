"""The Catalog on SQLAlchemy Core: one implementation for SQLite and PostgreSQL."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, delete, insert, select, update

from leptonai.adapters.catalog.engines import open_engine, translated
from leptonai.adapters.catalog.tables import EVENTS, TABLES, can_hold, dump, plain, values
from leptonai.core.errors import Fenced, Invalid, NotFound, Stale
from leptonai.core.nouns import Event, Record, Run, utcnow
from leptonai.core.states import RunState

R = TypeVar("R", bound=Record)
_RUN = TABLES[Run]


class SqlCatalog:
    """Records in a SQL database. See `leptonai.core.ports.Catalog` for the promise."""

    def __init__(self, url: str):
        self._engine = open_engine(url)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with translated(), self._engine.connect().execution_options(write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection

    def add(self, *records: Record) -> None:
        """Add all of the records or none."""
        with self._write() as connection:
            _insert(connection, records)

    def get(self, kind: type[R], id: str) -> R:
        """Return the record."""
        table, body = TABLES[kind], None
        if can_hold("id", id):
            with self._read() as connection:
                body = connection.execute(select(table.c.body).where(table.c.id == id)).scalar()
        if body is None:
            raise NotFound(f"there is no {kind.kind} {id[:120]!r}")
        return kind.model_validate_json(body)

    def find(
        self,
        kind: type[R],
        where: Mapping[str, Any] | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        oldest_first: bool = False,
    ) -> list[R]:
        """Return records whose indexed fields equal `where`, newest id first."""
        table = TABLES[kind]
        query = select(table.c.body).limit(limit).order_by(table.c.id if oldest_first else table.c.id.desc())
        for name, value in (where or {}).items():
            if name not in kind.indexed and name != "id":
                raise Invalid(f"a {kind.kind} cannot be found by {name!r}; use {', '.join(kind.indexed)}")
            column = table.c[name]
            if value is None:
                query = query.where(column.is_(None))
                continue
            any_of = value if isinstance(value, tuple) else (value,)
            found = [plain(name, one) for one in any_of if can_hold(name, one)]
            if not found:
                return []
            query = query.where(column.in_(found) if isinstance(value, tuple) else column == found[0])
        if after is not None:
            if not can_hold("id", after):
                raise Invalid("a page goes on after the id of a record: that is none")
            query = query.where(table.c.id > after if oldest_first else table.c.id < after)
        with self._read() as connection:
            return [kind.model_validate_json(body) for body in connection.execute(query).scalars()]

    def change(self, *records: Record, add: Sequence[Record] = (), drop: Sequence[Record] = ()) -> None:
        """Write each record if its stored revision is still the given one; add and drop others; all or none."""
        with self._write() as connection:
            for record in records:
                _replace(connection, record)
            for record in drop:
                table = TABLES[type(record)]
                gone = connection.execute(delete(table).where(table.c.id == record.id, table.c.rev == record.rev))
                if gone.rowcount == 0:
                    raise Stale(f"the {record.kind} {record.id!r} changed since it was read")
            _insert(connection, add)

    def claim(self, site: str, agent: str, lease_seconds: float, now: datetime, token: str) -> Run | None:
        """Give the oldest Run of the site that waits, or whose lease ran out, to `agent`."""
        with self._write() as connection:
            run = _next(connection, site, now)
            if run is None:
                return None
            taken = run.model_copy(
                update={
                    "state": RunState.RUNNING,
                    "epoch": run.epoch + 1,
                    "attempt": run.attempt + 1,
                    "agent": agent,
                    "token": token,
                    "lease_until": now + timedelta(seconds=lease_seconds),
                    "started": run.started or now,
                }
            )
            return _replace(connection, taken)

    def append(self, run: str, epoch: int, events: Sequence[Event]) -> int:
        """Append events to a Run that is in this epoch and has not ended."""
        rows = [{"run": run, "stream": event.stream, "body": dump(event, exclude={"seq"})} for event in events]
        if not can_hold("id", run):
            raise NotFound(f"there is no run {run[:120]!r}")
        with self._write() as connection:
            query = select(_RUN.c.epoch, _RUN.c.state).where(_RUN.c.id == run)
            found = connection.execute(query.with_for_update()).one_or_none()
            if found is None:
                raise NotFound(f"there is no run {run[:120]!r}")
            if found.epoch != epoch or RunState(found.state).ended:
                raise Fenced(f"the Run {run} is no longer this attempt's: it has ended, or another attempt has it")
            last = 0
            for row in rows:
                key = connection.execute(insert(EVENTS).values(row)).inserted_primary_key
                last = int(key[0]) if key is not None else last
            return last

    def series(self, run: str, *, after: int = 0, streams: Sequence[str] = (), limit: int = 1000) -> list[Event]:
        """Return events after `after`, oldest first."""
        if not can_hold("id", run):
            return []
        query = (
            select(EVENTS.c.seq, EVENTS.c.body)
            .where(EVENTS.c.run == run, EVENTS.c.seq > after)
            .order_by(EVENTS.c.seq)
            .limit(limit)
        )
        if streams:
            query = query.where(EVENTS.c.stream.in_(list(streams)))
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [Event.model_validate_json(row.body).model_copy(update={"seq": row.seq}) for row in rows]


def _insert(connection: Connection, records: Sequence[Record]) -> None:
    by_kind: dict[type[Record], list[dict[str, Any]]] = {}
    for record in records:
        by_kind.setdefault(type(record), []).append(values(record))
    for kind, rows in by_kind.items():
        connection.execute(insert(TABLES[kind]), rows)


def _replace(connection: Connection, record: R) -> R:
    table = TABLES[type(record)]
    written = record.model_copy(update={"rev": record.rev + 1, "updated": utcnow()})
    done = connection.execute(
        update(table).where(table.c.id == record.id, table.c.rev == record.rev).values(values(written))
    )
    if done.rowcount == 0:
        raise Stale(f"the {record.kind} {record.id!r} changed since it was read")
    return written


def _next(connection: Connection, site: str, now: datetime) -> Run | None:
    at = now.astimezone(UTC).timestamp()
    here = _RUN.c.site == site
    waiting = select(_RUN.c.body).where(here, _RUN.c.state == RunState.QUEUED.value).order_by(_RUN.c.id).limit(1)
    lost = (
        select(_RUN.c.body)
        .where(and_(here, _RUN.c.state == RunState.RUNNING.value, _RUN.c.lease < at))
        .order_by(_RUN.c.lease)
        .limit(20)
    )
    for query in (lost, waiting):
        # Another agent's transaction may hold a row: take the next one instead of waiting for it.
        for body in connection.execute(query.with_for_update(skip_locked=True)).scalars():
            run = Run.model_validate_json(str(body))
            if run.attempt < run.max_attempts or run.state is RunState.QUEUED:
                return run
    return None
