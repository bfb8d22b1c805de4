"""The catalog's contract on SQLite and on a real PostgreSQL; and what is particular to each."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.postgres import Postgres, postgres

from leptonai.core import plugins
from leptonai.core.errors import Invalid, Unavailable
from leptonai.core.nouns import Audit, Run
from leptonai.core.ports import Catalog
from leptonai.testing.catalog import CatalogContract, run


class TestSqlite(CatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> Iterator[Catalog]:
        catalog = plugins.catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
        yield catalog
        catalog.close()  # type: ignore[attr-defined]


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

    def test_two_servers_may_open_an_empty_database_at_once(self, server: Postgres) -> None:
        url = server.database()
        code = f"from leptonai.core import plugins; plugins.catalog({url!r}).close()"
        both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
        assert [(process.communicate(timeout=60)[1], process.returncode) for process in both] == [(b"", 0)] * 3


def test_the_tables_are_those_that_the_migrations_make(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from leptonai.adapters.catalog.engines import open_engine
    from leptonai.adapters.catalog.tables import METADATA

    engine = open_engine(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_sqlite_is_new_enough_and_durable(tmp_path: Path) -> None:
    from sqlalchemy import text

    from leptonai.adapters.catalog.engines import open_engine

    engine = open_engine(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    with engine.connect() as connection:
        version = tuple(map(int, connection.execute(text("SELECT sqlite_version()")).scalar_one().split(".")))
        assert version >= (3, 51, 3)
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "no url"])
def test_a_url_that_cannot_be_a_catalog(url: str) -> None:
    with pytest.raises(Invalid):
        plugins.catalog(url)


def test_a_database_that_is_not_there() -> None:
    with pytest.raises(Unavailable, match="cannot be used"):
        plugins.catalog("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")


WRITER = """
import sys
from leptonai.core import plugins
from leptonai.core.nouns import Audit
from leptonai.testing.catalog import run
catalog = plugins.catalog(sys.argv[1])
number = 0
while True:
    record = run(name=f"{sys.argv[2]}-{number}")
    catalog.add(record, Audit.new(subject=record.id))
    print(record.id, flush=True)
    catalog.change(record.model_copy(update={"name": "changed"}), add=(Audit.new(subject=record.id),))
    number += 1
"""


def kill_writers(folder: Path, kills: int) -> None:
    url = f"sqlite:///{folder / 'catalog.sqlite'}"
    plugins.catalog(url).close()  # type: ignore[attr-defined]
    rng, acked = random.Random(7), list[str]()
    for number in range(kills):
        out = folder / f"out{number}"
        with out.open("w") as file:
            writer = subprocess.Popen([sys.executable, "-c", WRITER, url, str(number)], stdout=file)
        until = time.monotonic() + 30
        while out.stat().st_size == 0 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        acked += [line for line in out.read_text().splitlines() if len(line) == 30]
    catalog = plugins.catalog(url)
    import pysqlite3

    with pysqlite3.connect(folder / "catalog.sqlite") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    plain.close()
    assert acked
    for id in acked:
        record = catalog.get(Run, id)
        # The audit row of each change is in the transaction of the change: as many rows as revisions.
        assert len(catalog.find(Audit, {"subject": id})) == record.rev
    catalog.close()  # type: ignore[attr-defined]


def test_a_killed_writer_loses_nothing_it_was_told_and_leaves_nothing_half(tmp_path: Path) -> None:
    kill_writers(tmp_path, 4)


@pytest.mark.slow
def test_many_killed_writers(tmp_path: Path) -> None:
    kill_writers(tmp_path, 60)


def test_reading_costs_the_same_among_many(tmp_path: Path) -> None:
    catalog = plugins.catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    catalog.add(*[run() for _ in range(50)])
    # Every query that lists or claims must be answered by an index, whatever the size: no scan of the table.
    from sqlalchemy import text

    with catalog._engine.connect() as connection:  # type: ignore[attr-defined]
        for query in (
            "SELECT body FROM run WHERE state = 'queued' ORDER BY id DESC LIMIT 50",
            "SELECT body FROM run WHERE site = 'home' AND state = 'queued' ORDER BY id LIMIT 1",
            "SELECT body FROM run WHERE site = 'home' AND state = 'running' AND lease < 1 ORDER BY lease LIMIT 20",
            "SELECT seq, body FROM event WHERE run = 'x' AND seq > 5 ORDER BY seq LIMIT 10",
        ):
            plan = " ".join(str(row[3]) for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}")))
            assert "USING INDEX" in plan
            assert "TEMP B-TREE" not in plan
    catalog.close()  # type: ignore[attr-defined]
