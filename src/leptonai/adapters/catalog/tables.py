"""The tables: one for each kind of record, with what it is found by beside its body, and one for the events of Runs."""

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text, UniqueConstraint

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import RECORDS, Record, Run

METADATA = MetaData()
_NUMBERS = {"version", "epoch"}
_LARGEST = 2**31 - 1  # of a number column
_LONGEST = 1000  # bytes of a text that is found by; an entry of PostgreSQL's indexes holds 2704


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
        Index("run_stage_state", table.c.stage, table.c.state, table.c.id)
        Index("run_queue", table.c.site, table.c.state, table.c.id)
        Index("run_lease", table.c.site, table.c.state, table.c.lease)
    return table


TABLES: dict[type[Record], Table] = {kind: _table(kind) for kind in RECORDS}

EVENTS = Table(
    "event",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("run", Text(), nullable=False),
    Column("stream", Text(), nullable=False),
    Column("body", Text(), nullable=False),
)
Index("event_run", EVENTS.c.run, EVENTS.c.seq)


def can_hold(name: str, value: Any) -> bool:
    """Whether a column that is found by can hold the value; where not, no record has it.

    PostgreSQL knows no NUL, no driver knows half a surrogate pair, and indexes hold no long texts.
    """
    if name in _NUMBERS:
        return type(value) is int and abs(value) <= _LARGEST  # True is no version
    text = str(value)
    try:
        return "\0" not in text and len(text.encode()) <= _LONGEST
    except UnicodeEncodeError:
        return False


def plain(name: str, value: Any) -> Any:
    """Return the value as its column holds it."""
    return value if name in _NUMBERS else str(value)


def dump(record: BaseModel, **options: Any) -> str:
    """Return the body of a record or an event. Raises `Invalid`."""
    try:
        return record.model_dump_json(**options)
    except PydanticSerializationError as error:
        raise Invalid(
            f"the {_word(record)} cannot be kept: it holds what is not JSON or not Unicode ({error})"
        ) from error


def values(record: Record) -> dict[str, Any]:
    """Return the row of a record. Raises `Invalid` that names the field which cannot be kept."""
    row: dict[str, Any] = {"id": record.id, "rev": record.rev, "body": dump(record)}
    for name in _columns(type(record)):
        if name == "lease":
            until = getattr(record, "lease_until", None)
            row[name] = until.timestamp() if until is not None else None
        else:
            value = getattr(record, name)
            row[name] = None if value is None else plain(name, value)
    for name in ("id", *_columns(type(record))):
        if name != "lease" and row[name] is not None and not can_hold(name, row[name]):
            right = f"numbers up to {_LARGEST}" if name in _NUMBERS else f"up to {_LONGEST} bytes of text without NUL"
            raise Invalid(
                f"the {name} of a {record.kind} cannot be kept: use {right}", errors=[FieldError(name, right)]
            )
    return row


def _word(record: BaseModel) -> str:
    return record.kind if isinstance(record, Record) else type(record).__name__.lower()
