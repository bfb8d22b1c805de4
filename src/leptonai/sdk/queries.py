"""The answer of a database to a query, as Parquet files on their way to the server."""

import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import time, timedelta
from decimal import Decimal
from typing import IO, Any
from urllib.parse import unquote
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from leptonai.core.errors import FieldError, Invalid, Unsupported

_ROWS = 50_000  # that are fetched at once


def queried(sql: str, url: str, keep: ExitStack) -> list[tuple[IO[bytes], str]]:
    """Return Parquet files with what a query answers, fetched on this machine: the server never sees the URL.

    A new file begins where the types of the rows change: whole numbers that become numbers, a column that has a first value.
    Raises `Invalid` that says what the database says.
    """
    try:
        import sqlalchemy as sa
    except ImportError as error:
        raise Unsupported("queries are not made here yet:  pip install 'lepton-ai-sdk[platform]'") from error
    files: list[tuple[IO[bytes], str]] = []
    try:
        engine = _engine(sa, url)
        keep.callback(engine.dispose)
        with engine.connect() as connection, ExitStack() as writers:
            found = connection.execution_options(stream_results=True).execute(sa.text(sql))
            names, writer = list(found.keys()), None
            while rows := found.fetchmany(_ROWS):
                table = pa.table({name: _column(name, [row[at] for row in rows]) for at, name in enumerate(names)})
                if writer is None or writer.schema != table.schema:
                    file = keep.enter_context(tempfile.TemporaryFile())
                    files.append((file, f"query-{len(files) + 1}.parquet"))
                    writer = writers.enter_context(pq.ParquetWriter(file, table.schema))
                writer.write_table(table)
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        what = _redacted(str(error).splitlines()[0], url)
        raise Invalid(
            f"the query failed: {what}: mend the query (sql) or the address (url)",
            errors=[FieldError("sql", "a query that answers rows")],
        ) from None  # what the library says of it may hold the password
    if not files:
        raise Invalid(
            "the query answers no rows: there is no data in it", errors=[FieldError("sql", "at least one row")]
        )
    return files


def _engine(sa: Any, url: str) -> Any:
    try:
        return sa.create_engine(_driver(url))
    except (ValueError, TypeError) as error:
        right = "such as postgresql://user@host/name"
        what = _redacted(str(error).splitlines()[0], url)
        raise Invalid(f"url names no database: {what}: write it {right}", errors=[FieldError("url", right)]) from None


def _redacted(text: str, url: str) -> str:
    """Return a message without the credentials of the URL."""
    user, at, _ = url.partition("://")[2].rpartition("@")
    password = user.partition(":")[2] if at else ""
    for secret in filter(None, (url, _driver(url), password, unquote(password))):
        text = text.replace(secret, "…")
    return re.sub(r"//[^@/\s]*@", "//…@", text)[:500]


def _driver(url: str) -> str:
    """Return a URL with the driver that is installed with us."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def _column(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array([_PLAIN.get(type(value), _same)(value) for value in values])
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise Invalid(
            f"the query's column {name!r} holds values that are not known: {str(error).splitlines()[0]}",
            errors=[FieldError(name, "numbers, text, dates or truth values")],
        ) from error


def _same(value: Any) -> Any:
    return value


_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    Decimal: float,
    UUID: str,
    timedelta: timedelta.total_seconds,
    time: time.isoformat,
}
