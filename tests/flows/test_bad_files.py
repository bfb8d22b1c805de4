"""Files that nobody should trust, sent to a server that lives on: each is a sentence or a version, and a refused one leaves nothing."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path

import polars  # noqa: F401  # it sets a variable when it is first imported
import psutil
import pytest
from tests.support.bad_files import FAMILIES, Bad
from tests.support.home import data_home

import leptonai
from leptonai.core.errors import LeptonError
from leptonai.core.nouns import Blob
from leptonai.sdk import client
from leptonai.server import sweeping
from leptonai.server.context import open_context


def cases(step: int) -> Iterator[tuple[str, Bad]]:
    """Yield each `step`-th case of the corpus with its family; none is kept."""
    every = ((family, case) for family, made in FAMILIES.items() for case in made())
    yield from islice(every, 0, None, step)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with data_home(tmp_path / "home") as folder:
        yield folder


def put(folder: Path, case: Bad) -> Path | list[Path]:
    """Write the files of a case; return what a user would name."""
    for name, data in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    as_folder = any("/" in name for name in case.files) or not any(
        name.endswith((".csv", ".jsonl", ".parquet", ".arrow", ".npz", "ubyte", ".gz")) for name in case.files
    )
    return folder if as_folder else [folder / name for name in case.files]


def problem(name: str, folder: Path, case: Bad) -> str | None:
    """Return what is wrong with what a user is told; None: nothing. What is read is deleted again."""
    try:
        leptonai.create_dataset(name, put(folder, case), **case.options).delete()
    except LeptonError as error:
        said = error.message
        return f"says {said[:300]!r}" if "\n" in said or len(said) > 900 or error.code == "internal" else None
    return None if case.words is None else "was read"


def servers() -> list[psutil.Process]:
    """Return the processes of the server: itself, its agent, what the agent keeps in memory."""
    return psutil.Process().children(recursive=True)


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_nothing_is_left_of_what_was_refused(
    step: int, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leptonai.get_dataset("first").delete()
    before = {one.pid: one.memory_info().rss for one in servers()}
    bad, count = [], 0
    for number, (family, case) in enumerate(cases(step)):
        count += 1
        if (wrong := problem(f"bad-{number}", tmp_path / str(number), case)) is not None:
            bad.append(f"{family}, {case.what}: {wrong}")
    assert bad == [], f"bad {len(bad)}/{count}"
    assert leptonai.list_datasets() == []
    grown = {one.name(): one.memory_info().rss - before[one.pid] for one in servers() if one.pid in before}
    assert {name: size >> 20 for name, size in grown.items() if size > 150 << 20} == {}, "a server lives on"
    client.disconnect()
    assert list((home / "blobs" / "tmp").iterdir()) == []
    monkeypatch.setattr(sweeping, "SKEW", timedelta(0))
    with contextlib.closing(open_context(home, None, None, 30.0)) as here:
        sweeping.sweep(here.catalog, here.raw, "ann", lease=timedelta(0))
        assert list(here.raw.list()) == []
        assert here.catalog.find(Blob, {"owner": "admin"}, limit=10) == []
    left = [
        one
        for one in home.rglob("*")
        if one.is_file() and one.stat().st_size > 1 << 20 and not one.name.startswith("catalog.")
    ]
    assert left == [], "nor in any other place of the home folder"
