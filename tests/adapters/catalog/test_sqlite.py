"""What is particular to SQLite: its version, its durability, and its troubles in words that help."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite3  # never two SQLite libraries in one process: they do not see each other's locks
from sqlalchemy import text

from leptonai.adapters.catalog import engines
from leptonai.adapters.catalog.sql import SqlCatalog
from leptonai.core import plugins
from leptonai.core.errors import Busy, Corrupt, DiskFull, Invalid, LeptonError, Unavailable
from leptonai.core.nouns import Run
from leptonai.testing.catalog import run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(file: Path) -> Iterator[SqlCatalog]:
    catalog = SqlCatalog(f"sqlite:///{file}")
    yield catalog
    catalog.close()


def test_it_is_new_enough_and_durable(catalog: SqlCatalog) -> None:
    with catalog._engine.connect() as connection:
        version = tuple(map(int, connection.execute(text("SELECT sqlite_version()")).scalar_one().split(".")))
        assert version >= (3, 51, 3)
        pragmas = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 10_000}
        assert {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in pragmas} == pragmas


def test_an_old_library_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ((3, 40, 1), (3, 51, 2)):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        with pytest.raises(Unavailable, match=r"bug.*install a newer pysqlite3"):
            SqlCatalog(f"sqlite:///{file}")
    assert not file.exists()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "no url"])
def test_a_url_that_cannot_be_a_catalog(url: str) -> None:
    with pytest.raises(Invalid):
        plugins.catalog(url)


def test_a_file_that_is_no_database(file: Path) -> None:
    file.write_bytes(b"name,age\n" * 1000)
    with pytest.raises(Corrupt, match="not a database"):
        SqlCatalog(f"sqlite:///{file}")
    assert file.read_bytes() == b"name,age\n" * 1000


def test_a_place_where_no_file_can_be(tmp_path: Path, file: Path) -> None:
    file.mkdir()
    with pytest.raises(Unavailable, match="unable to open"):
        SqlCatalog(f"sqlite:///{file}")
    (tmp_path / "plain").write_text("")
    with pytest.raises(Unavailable, match="cannot be made"):
        SqlCatalog(f"sqlite:///{tmp_path / 'plain' / 'deep' / 'c.sqlite'}")


def test_a_damaged_file_says_so(file: Path) -> None:
    first = SqlCatalog(f"sqlite:///{file}")
    first.add(*[run() for _ in range(200)])
    first.close()
    damaged = bytearray(file.read_bytes())
    damaged[4096:] = b"\7" * (len(damaged) - 4096)
    file.write_bytes(damaged)
    with pytest.raises(Corrupt, match="restore it from a backup"):
        SqlCatalog(f"sqlite:///{file}").find(Run)


def test_a_catalog_of_a_newer_leptonai_is_left_alone(file: Path) -> None:
    SqlCatalog(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as plain:
        plain.execute("UPDATE alembic_version SET version_num = '9999'")
    plain.close()
    with pytest.raises(Unavailable, match="newer leptonai"):
        SqlCatalog(f"sqlite:///{file}")


def test_writers_wait_for_each_other_and_then_are_told_to_come_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_BUSY_MS", 300)
    catalog = SqlCatalog(f"sqlite:///{file}")
    holder = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy) as refused:
        catalog.add(run())
    assert refused.value.retry_after == 1.0
    assert catalog.find(Run) == [], "who reads waits for nobody"
    later = threading.Timer(0.1, lambda: holder.execute("COMMIT"))
    later.start()
    catalog.add(run())
    later.join()
    assert len(catalog.find(Run)) == 1
    holder.close()
    catalog.close()


def test_a_full_disk_refuses_writes_answers_reads_and_recovers(catalog: SqlCatalog) -> None:
    kept = run()
    catalog.add(kept)
    with catalog._engine.connect() as connection:  # the one connection that the pool gives out again
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(DiskFull, match="free some space"):
        catalog.add(*[run(spec={"x": "y" * 1000}) for _ in range(200)])
    assert catalog.find(Run) == [kept]
    with catalog._engine.connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 1000000"))
    catalog.add(run())
    assert len(catalog.find(Run)) == 2


FILLS = """
import sys
from leptonai.core import plugins
from leptonai.core.errors import DiskFull
from leptonai.core.nouns import Run
from leptonai.testing.catalog import run
catalog = plugins.catalog(f"sqlite:///{sys.argv[1]}/catalog.sqlite")
filler, count = open(sys.argv[1] + "/filler", "wb"), 0
filler.write(bytes(1 << 20))
filler.flush()
try:
    while count < 5000:
        catalog.add(run(spec={"x": "y" * 5000}))
        count += 1
except DiskFull:
    assert len(catalog.find(Run, limit=5001)) == count, "all that was acknowledged can be read, and no more is there"
    filler.truncate(0)
    catalog.add(run())
    print("recovered", flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path / "disk"), sys.executable, FILLS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "mount" in done.stderr and "permi" in done.stderr.lower():
        pytest.skip("this root may not mount")
    assert (done.stdout, done.stderr) == ("recovered\n", "")


def test_no_message_shows_what_is_kept(catalog: SqlCatalog) -> None:
    with catalog._write() as connection:
        connection.execute(text("DROP TABLE event"))
    with pytest.raises(LeptonError) as refused:
        catalog.add(run(spec={"password": "hunter2"}))
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in str(refused.value.__cause__)
