"""The tables: one for each kind of record, with what it is found by beside its body, and one for the events of Runs."""

from typing import Any

from sqlalchemy import Column, Float, Index, Integer, MetaData, Table, Text, UniqueConstraint

from leptonai.core.nouns import RECORDS, Record, Run

METADATA = MetaData()
_NUMBERS = {"version", "epoch"}


def _columns(kind: type[Record]) -> tuple[str, ...]:
    more = ("epoch", "lease") if kind is Run else ()
    return (*kind.indexed, *more)


def _type(name: str) -> Any:
    return Integer() if name in _NUMBERS else Float() if name == "lease" else Text()


def _table(kind: type[Record]) -> Table:
    table = Table(
        kind.kind,
        METADATA,
        Column("id", Text(), primary_key=True),
        Column("rev", Integer(), nullable=False),
        *(Column(name, _type(name)) for name in _columns(kind)),
        Column("body", Text(), nullable=False),
        *([UniqueConstraint(*kind.unique, name=f"{kind.kind}_unique")] if kind.unique else []),
    )
    for name in kind.indexed:
        Index(f"{kind.kind}_{name}", table.c[name], table.c.id)
    if kind is Run:
        Index("run_queue", table.c.site, table.c.state, table.c.id)
        Index("run_lease", table.c.site, table.c.state, table.c.lease)
    return table


TABLES: dict[type[Record], Table] = {kind: _table(kind) for kind in RECORDS}

EVENTS = Table(
    "event",
    METADATA,
    Column("seq", Integer(), primary_key=True, autoincrement=True),
    Column("run", Text(), nullable=False),
    Column("stream", Text(), nullable=False),
    Column("body", Text(), nullable=False),
)
Index("event_run", EVENTS.c.run, EVENTS.c.seq)


def values(record: Record) -> dict[str, Any]:
    """Return the row of a record."""
    row: dict[str, Any] = {"id": record.id, "rev": record.rev, "body": record.model_dump_json()}
    for name in _columns(type(record)):
        if name == "lease":
            until = getattr(record, "lease_until", None)
            row[name] = until.timestamp() if until is not None else None
        else:
            value = getattr(record, name)
            row[name] = str(value) if value is not None and name not in _NUMBERS else value
    return row
