"""The migrations make the tables that the code means, and carry along what an older leptonai kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.support.postgres import Postgres, postgres

from leptonai.adapters.catalog import engines
from leptonai.adapters.catalog.migrations.versions import v0001_spine
from leptonai.adapters.catalog.sql import SqlCatalog
from leptonai.adapters.catalog.tables import METADATA
from leptonai.core.nouns import Run
from leptonai.core.states import RunState
from leptonai.testing.catalog import run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    return str(request.getfixturevalue("server").database())


def test_the_tables_are_those_that_the_migrations_make(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = engines.open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = [d for d in compare_metadata(context, METADATA) if "sqlite_stat" not in str(d)]
        assert found == []
    engine.dispose()


def test_the_newest_migration_is_the_one_that_the_code_knows() -> None:
    from alembic.script import ScriptDirectory

    folder = Path(engines.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == engines.HEAD


def test_a_catalog_is_opened_again(url: str) -> None:
    SqlCatalog(url).close()
    SqlCatalog(url).close()


def test_an_older_catalog_is_brought_up_to_date_with_what_it_holds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade
    with monkeypatch.context() as older:
        older.setattr(engines, "HEAD", v0001_spine.revision)
        older.setattr(command, "upgrade", lambda config, _: upgrade(config, v0001_spine.revision))
        old = SqlCatalog(url)
        waiting, ended = run(), run(state=RunState.SUCCEEDED)
        old.add(waiting, ended)
        assert old.series(waiting.id) == []
        old.close()
    new = SqlCatalog(url)
    assert new.find(Run) == [ended, waiting]
    new.change(waiting.model_copy(update={"state": RunState.CANCELLED}))
    assert [event.body["state"] for event in new.series(waiting.id)] == ["cancelled"]
    new.close()


def test_all_of_it_can_be_taken_back(url: str) -> None:
    from alembic import command
    from alembic.config import Config

    engine = engines.open_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(engines.__file__).parent / "migrations"))
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with engine.connect() as connection:
        where = (
            "sqlite_schema WHERE type IN ('table', 'trigger') AND name NOT LIKE 'sqlite_%'"
            if engine.dialect.name == "sqlite"
            else "pg_tables WHERE schemaname = 'public'"
        )
        assert connection.execute(text(f"SELECT count(*) FROM {where}")).scalar() == 1, "only Alembic's own is left"
    engine.dispose()
    SqlCatalog(url).close()
