"""The catalog's contract on SQLite and on a real PostgreSQL server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.postgres import Postgres, postgres

from leptonai.core import plugins
from leptonai.core.ports import Catalog
from leptonai.server.heard import HeardCatalog
from leptonai.server.stream import Wakes
from leptonai.testing.catalog import CatalogContract

OPENER = """
import alembic.command, sys
from leptonai.core import plugins
plugins._load("catalogs", sys.argv[1].partition(":")[0])
print(flush=True)
sys.stdin.readline()
for url in sys.argv[1:]:
    plugins.catalog(url).close()
"""


def open_at_once(*urls: str) -> None:
    """Open the databases, one after the other, in three processes that begin together."""
    command, pipe = [sys.executable, "-c", OPENER, *urls], subprocess.PIPE
    opening = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(3)]
    for process in opening:
        assert process.stdout is not None
        process.stdout.readline()
    for process in opening:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in opening] == [(b"", 0)] * 3


class TestSqlite(CatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> Iterator[Catalog]:
        catalog = plugins.catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
        yield catalog
        catalog.close()  # type: ignore[attr-defined]

    def test_several_servers_may_open_an_empty_file_at_once(self, tmp_path: Path) -> None:
        open_at_once(*(f"sqlite:///{tmp_path / str(number)}" for number in range(8)))


class TestHeard(CatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> Iterator[Catalog]:
        catalog = HeardCatalog(plugins.catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}"), Wakes())
        yield catalog
        catalog.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


class TestPostgres(CatalogContract):
    @pytest.fixture
    def catalog(self, server: Postgres) -> Iterator[Catalog]:
        catalog = plugins.catalog(server.database())
        yield catalog
        catalog.close()  # type: ignore[attr-defined]

    def test_several_servers_may_open_an_empty_database_at_once(self, server: Postgres) -> None:
        open_at_once(*(server.database() for _ in range(4)))
