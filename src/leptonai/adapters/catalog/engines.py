"""Connections to SQLite and PostgreSQL, their tables brought up to date, and their errors in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc, text
from sqlalchemy.engine import make_url

from leptonai.core.errors import Busy, Conflict, Corrupt, DiskFull, Invalid, MissingExtra, Unavailable

HEAD = "0006"  # the newest migration; opening a catalog that has it never imports Alembic, which is slow
_FIRST_SAFE_SQLITE = (3, 51, 3)  # 3.7.0 to 3.51.2 can corrupt a database when the write-ahead log is reset
_LOCK = 0x1E970  # PostgreSQL advisory lock that one opening catalog holds while it migrates
_BUSY_MS = 10_000  # how long a write waits for another one before it is refused
_DISK_FULL = ("disk is full", "disk full", "no space left", "could not extend file")
_BUSY = ("locked", "busy", "deadlock", "too many clients", "too many connections", "remaining connection slots")
_CORRUPT = ("malformed", "not a database", "checksum", "invalid page")


def open_engine(url: str) -> Engine:
    """Return an engine for ``sqlite:///path`` or ``postgresql://…``, its tables up to date.

    Raises `Invalid` for a URL that is none, `Unavailable` when the database cannot be reached or used, `Corrupt` when what is
    there is no database. A message never shows the URL: it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise Invalid(
            "the database URL is not one: use sqlite:///path or postgresql://user:password@host:port/name"
        ) from error
    engine = _sqlite(url) if parsed.get_backend_name() == "sqlite" else _postgres(url)
    try:
        with translated():
            _upgrade(engine)
    except exc.ProgrammingError as error:  # an option of the URL that is none; a right that the user lacks
        engine.dispose()
        raise Unavailable(f"the database cannot be used: {_first_line(error)}") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def _sqlite(url: str) -> Engine:
    try:
        from pysqlite3 import dbapi2
    except ImportError as error:
        raise MissingExtra(
            "the catalog needs pysqlite3: install it with  pip install 'lepton-ai-sdk[platform]'"
        ) from error
    if dbapi2.sqlite_version_info < _FIRST_SAFE_SQLITE:
        raise Unavailable(
            f"SQLite {dbapi2.sqlite_version} has a bug that can corrupt the catalog: install a newer pysqlite3 (SQLite 3.51.3 or later)"
        )
    path = make_url(url).database
    if not path or path == ":memory:":
        raise Invalid("the catalog must be a file: use sqlite:///path")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the folder of the catalog {path} cannot be made: {error.strerror}") from error
    engine = create_engine(
        url,
        module=dbapi2,
        pool_size=8,
        max_overflow=24,
        connect_args={"check_same_thread": False},
        hide_parameters=True,  # what is kept is nobody's business in a log
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin when `begin` below says so
        for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgres(url: str) -> Engine:
    name = make_url(url).set(drivername="postgresql+psycopg")
    try:
        return create_engine(name, pool_size=8, max_overflow=24, pool_pre_ping=True, hide_parameters=True)
    except ImportError as error:
        raise MissingExtra(
            "PostgreSQL needs psycopg: install it with  pip install 'lepton-ai-sdk[postgres]'"
        ) from error


def _version(connection: Connection) -> str | None:
    try:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except (exc.OperationalError, exc.ProgrammingError) as error:
        if "no such table" in str(error) or "does not exist" in str(error):
            return None
        raise
    return None if found is None else str(found)


def _upgrade(engine: Engine) -> None:
    with engine.connect() as connection:
        found = _version(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise Unavailable(
            f"the catalog was written by a newer leptonai (schema {found}, this one knows {HEAD}): update leptonai"
        )
    from alembic import command
    from alembic.config import Config

    with engine.connect().execution_options(write=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":  # SQLite: BEGIN IMMEDIATE is the lock
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if _version_in(connection) == HEAD:
            return
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _version_in(connection: Connection) -> str | None:
    # Inside a transaction of PostgreSQL a failed statement would spoil it: ask in a savepoint.
    if connection.dialect.name == "sqlite":
        return _version(connection)
    savepoint = connection.begin_nested()
    try:
        return _version(connection)
    finally:
        savepoint.rollback()


@contextmanager
def translated() -> Iterator[None]:
    """Raise the database's errors as ours."""
    try:
        yield
    except exc.IntegrityError as error:
        raise Conflict(_conflict(str(error.orig))) from error
    except exc.DBAPIError as error:
        said = str(error.orig).lower()
        if "run_ended" in said:
            raise Conflict("the Run has ended and never changes again") from error
        if any(word in said for word in _DISK_FULL):
            raise DiskFull(
                "the disk of the catalog is full: nothing was changed; free some space and try again"
            ) from error
        if any(word in said for word in _CORRUPT):
            raise Corrupt(
                f"the catalog is damaged ({_first_line(error)}): restore it from a backup; nothing was changed"
            ) from error
        if any(word in said for word in _BUSY):
            raise Busy("the catalog is busy: try again", retry_after=1.0) from error
        if error.connection_invalidated or isinstance(error, exc.OperationalError):
            raise Unavailable(f"the database cannot be used: {_first_line(error)}") from error
        raise
    except exc.TimeoutError as error:
        raise Busy("the catalog is busy: try again", retry_after=1.0) from error


def _first_line(error: exc.DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


def _conflict(said: str) -> str:
    if "run_ended" in said:
        return "the Run has ended and never changes again"
    return "a record with this id or name exists already"
