"""What is particular to PostgreSQL: a server that goes away, comes back, or refuses; long series; its own URL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from tests.support.postgres import Postgres, postgres

from leptonai.adapters.catalog.sql import SqlCatalog
from leptonai.core import plugins
from leptonai.core.errors import Busy, Invalid, LeptonError, Unavailable
from leptonai.core.nouns import Event, Run, utcnow
from leptonai.testing.catalog import run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def catalog(server: Postgres) -> Iterator[SqlCatalog]:
    catalog = SqlCatalog(server.database())
    yield catalog
    catalog.close()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://u:secret@127.0.0.1:port/x", Invalid),
        ("postgresql://u:secret@127.0.0.1:1/x?connect_timeout=2", Unavailable),
        ("postgresql://u:secret@127.0.0.1:1/x?nonsense=1", Unavailable),
        ("postgresql://u:secret@no-such-host.invalid/x?connect_timeout=2", Unavailable),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_and_never_shown(url: str, kind: type[LeptonError]) -> None:
    with pytest.raises(kind) as refused:
        plugins.catalog(url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_database_that_is_not_there(server: Postgres) -> None:
    url = server.database()
    with pytest.raises(Unavailable, match=r"cannot be used.*does not exist"):
        plugins.catalog(url.replace("/t_", "/gone_"))


def test_connections_that_were_cut_are_made_again(catalog: SqlCatalog) -> None:
    other = SqlCatalog(str(catalog._engine.url.render_as_string(hide_password=False)))
    catalog.add(run())
    with other._engine.connect() as connection:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert connection.execute(text(cut)).all()
    catalog.add(run())
    assert len(catalog.find(Run)) == 2
    other.close()


def test_a_connection_that_is_cut_in_the_middle_leaves_nothing_half(catalog: SqlCatalog) -> None:
    with pytest.raises(Unavailable), catalog._write() as connection:
        connection.execute(text("INSERT INTO site (id, rev, name, body) VALUES ('s', 1, 's', '{}')"))
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with catalog._engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        connection.execute(text("SELECT 1"))
    with catalog._engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM site")).scalar() == 0


def test_a_server_with_no_connection_left_is_busy(server: Postgres) -> None:
    url = server.database()
    SqlCatalog(url).close()
    full = SqlCatalog(url)
    name = url.partition("?")[0].rpartition("/")[2]
    held = [full._engine.connect() for _ in range(2)]
    with held[0].begin():
        held[0].execute(text("CREATE ROLE poor LOGIN CONNECTION LIMIT 0"))
        held[0].execute(text(f"GRANT ALL ON DATABASE {name} TO poor"))
    with pytest.raises(Busy):
        SqlCatalog(url.replace("postgres:", "poor:", 1).replace("//postgres", "//poor", 1))
    for connection in held:
        connection.close()
    full.close()


def test_deadlocks_are_busy_not_errors(catalog: SqlCatalog) -> None:
    one, two = run(), run()
    catalog.add(one, two)

    def change(turn: int) -> str:
        both = [catalog.get(Run, id) for id in ((one.id, two.id) if turn % 2 else (two.id, one.id))]
        try:
            catalog.change(*both)
        except LeptonError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(change, range(12))) <= {"done", "stale", "busy"}


def test_series_go_on_beyond_32_bits(catalog: SqlCatalog) -> None:
    catalog.add(run())
    claimed = catalog.claim("home", "a", 30, utcnow(), "t")
    assert claimed is not None
    with catalog._engine.begin() as connection:
        connection.execute(text("SELECT setval('event_seq_seq', 5000000000)"))
    last = catalog.append(claimed.id, 1, [Event(stream="log", body={"line": "x"})])
    assert last == 5_000_000_001
    assert [e.seq for e in catalog.series(claimed.id, after=5_000_000_000)] == [last]
    assert catalog.series(claimed.id, after=2**62) == []
