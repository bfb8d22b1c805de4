"""kill -9 at any moment: what was acknowledged is there, nothing is there by half, and the file is whole."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from leptonai.adapters.catalog.sql import SqlCatalog
from leptonai.core.nouns import Audit, Run
from leptonai.testing.catalog import MINE, run

ROOT = Path(__file__).parents[3]


def crash(do: str, folder: Path, kills: int) -> int:
    command = [sys.executable, "-m", "tests.adapters.catalog.crasher", do, str(folder), str(kills)]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=1200).stdout)


def check_whole(catalog: SqlCatalog) -> None:
    with catalog._engine.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []


def kill_writers(folder: Path, kills: int) -> None:
    assert crash("write", folder, kills) == kills
    catalog = SqlCatalog(f"sqlite:///{folder / 'catalog.sqlite'}")
    check_whole(catalog)
    told = Counter[str]()
    for line in (folder / "acked").read_text().splitlines():
        id, rev = line.split()
        told[id] = max(told[id], int(rev))
    runs = {record.id: record for record in catalog.find(Run, limit=1_000_000)}
    audits = Counter(audit.subject for audit in catalog.find(Audit, limit=1_000_000))
    assert len(told) > kills / 4, "hardly anything was written: the test has shown nothing"
    assert [id for id, rev in told.items() if id not in runs or runs[id].rev < rev] == [], "acknowledged, and lost"
    assert audits.keys() <= runs.keys()
    for record in runs.values():
        # A change and its audit are one transaction: as many rows as revisions. Only a claim has none of its own.
        between = record.state.value == "running"
        assert audits[record.id] == record.rev - between
        assert len(catalog.series(record.id, streams=MINE)) in {0, 5}
        moves = [event.body["state"] for event in catalog.series(record.id, streams=("state",))]
        assert moves == ["queued", "running", "succeeded"][: moves.index(record.state.value) + 1]
        assert len(moves) == len(set(moves))
    catalog.close()


def kill_while_opening(folder: Path, kills: int) -> None:
    killed = crash("open", folder, kills)
    for number in range(kills):
        catalog = SqlCatalog(f"sqlite:///{folder / str(number)}.sqlite")
        check_whole(catalog)
        record = run()
        catalog.add(record)
        assert [event.body["state"] for event in catalog.series(record.id)] == ["queued"]
        catalog.close()
    assert killed > 0, "all had opened before they were killed: the test has shown nothing"


def test_killed_writers_lose_nothing_and_leave_nothing_half(tmp_path: Path) -> None:
    kill_writers(tmp_path, 30)


def test_killed_while_the_tables_are_made(tmp_path: Path) -> None:
    kill_while_opening(tmp_path, 12)


@pytest.mark.slow
def test_many_killed_writers(tmp_path: Path) -> None:
    kill_writers(tmp_path, 600)


@pytest.mark.slow
def test_many_killed_while_the_tables_are_made(tmp_path: Path) -> None:
    kill_while_opening(tmp_path, 150)
