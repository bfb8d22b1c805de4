"""A folder of blobs under failure: the disk full, the disk broken, the writer killed, at every call it makes."""

import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leptonai.adapters.stores import local
from leptonai.adapters.stores.local import LocalStore, folder_of
from leptonai.core.errors import DiskFull, Invalid, LeptonError, Unavailable
from leptonai.core.ports import StoredBlob
from leptonai.testing.store import some_bytes

CALLS = ("open", "write", "fsync", "replace", "close")
CONTENT = [some_bytes(300_000), b"tail"]


class Failing(types.SimpleNamespace):
    """The module `os` as the store sees it; its `at`-th call of `CALLS` fails with `code`. `made` lists the calls."""

    def __init__(self, at: int, code: int) -> None:
        super().__init__(**vars(os))
        self.made: list[tuple[str, Any]] = []
        self._at, self._code = at, code
        for name in CALLS:
            setattr(self, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.made.append((name, args[0]))
            if len(self.made) != self._at:
                return real(*args, **options)
            if name == "close":
                real(*args)
            elif name == "write":
                real(args[0], args[1][: len(args[1]) // 2])  # as disks do: half of it is there
            raise OSError(self._code, os.strerror(self._code))

        return call


def failing(monkeypatch: pytest.MonkeyPatch, at: int, code: int = errno.EIO) -> Failing:
    shim = Failing(at, code)
    monkeypatch.setattr(local, "os", shim)
    return shim


def calls_of_a_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    store = LocalStore(folder)
    with monkeypatch.context() as patch:
        shim = failing(patch, 0)
        store.write(CONTENT)
    return shim.made


def temps(store: LocalStore) -> list[Path]:
    return list((store.folder / "tmp").iterdir())


def test_the_order_in_which_a_write_becomes_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = calls_of_a_write(tmp_path, monkeypatch)
    assert [name for name, _ in made] == [
        "open",
        "write",
        "write",
        "fsync",
        "close",
        "open",
        "replace",
        "fsync",
        "close",
    ]
    assert made[1][1] == made[3][1], "the file that was written is the one that was synced"
    assert made[5][1] == tmp_path / hashlib.sha256(b"".join(CONTENT)).hexdigest()[:2], "and its folder"


@pytest.mark.parametrize(
    ("code", "error"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, Unavailable)]
)
def test_a_failure_at_each_call_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[LeptonError]
) -> None:
    total = len(calls_of_a_write(tmp_path / "counted", monkeypatch))
    store = LocalStore(tmp_path / "blobs")
    acked = store.write([b"before"])
    for at in range(1, total):  # the last call closes the folder: it can lose nothing, see below
        with monkeypatch.context() as patch:
            shim = failing(patch, at, code)
            with pytest.raises(error, match=str(tmp_path)):
                store.write(CONTENT)
        assert [name for name, _ in shim.made].count("fsync") <= 2, "a failed fsync is not tried again"
        assert list(store.list()) == [acked]
        assert temps(store) == []
    with monkeypatch.context() as patch:
        failing(patch, total, code)
        store.write(CONTENT)
    assert len(list(store.list())) == 2


def test_a_failure_never_takes_away_what_was_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    acked = store.write(CONTENT)
    for at in range(1, 9):
        with monkeypatch.context() as patch:
            failing(patch, at)
            with pytest.raises(Unavailable):
                store.write(CONTENT)
        with store.open(acked.id) as file:
            assert file.read() == b"".join(CONTENT)


def test_a_real_full_disk(tmp_path: Path) -> None:
    """A file size limit is the full disk that needs no rights: the kernel refuses the write."""
    code = (
        "import resource, signal, sys\n"
        "from leptonai.adapters.stores.local import LocalStore\n"
        "from leptonai.core.errors import DiskFull\n"
        "store = LocalStore(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "kept = store.write([b'small'])\n"
        "try: store.write([bytes(300_000)])\n"
        "except DiskFull as error: print(error)\n"
        "assert list(store.list()) == [kept]\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"the disk of {tmp_path} is full: make room on it and try again\n"
    assert temps(LocalStore(tmp_path)) == []


def test_killed_at_each_call(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    subprocess.run([sys.executable, "-m", "tests.support.crasher", str(folder)], check=True, timeout=240)
    store = LocalStore(folder)
    passes = sorted(tmp_path.glob("*.acked"))
    assert len(passes) > 40, "one for each call"
    acked = [StoredBlob(*json.loads(line)) for path in passes for line in path.read_text().splitlines()]
    assert len(acked) > 60
    there = set(store.list())
    assert set(acked) <= there
    for blob in there:  # acknowledged or not: what is visible is whole
        with store.open(blob.id) as file:
            assert len(file.read()) == blob.size
    left = temps(store)
    assert left, "some were killed in the middle"
    for path in left:
        os.utime(path, (0, 0))
    assert temps(LocalStore(folder)) == []
    assert set(store.list()) == there


def test_the_sweep_spares_the_young_and_the_living(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "tmp" / "young").write_bytes(b"x")
    for name in ("old", "old and locked"):
        (tmp_path / "tmp" / name).write_bytes(b"x")
        os.utime(tmp_path / "tmp" / name, (0, 0))

    def slow() -> Iterator[bytes]:
        yield b"begun "
        (path,) = {path for path in temps(store) if "o" not in path.name}
        os.utime(path, (0, 0))  # as if an hour had passed
        LocalStore(tmp_path)
        yield b"and ended"

    with (tmp_path / "tmp" / "old and locked").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        blob = store.write(slow())
    with store.open(blob.id) as file:
        assert file.read() == b"begun and ended"
    assert {path.name for path in temps(store)} == {"young", "old and locked"}


def test_only_the_owner_can_look(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "a" / "b")
    blob = store.write([b"x"])
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (store.folder / blob.id[:2] / blob.id[2:]).stat().st_mode & 0o777 == 0o600


def test_what_a_url_may_be(tmp_path: Path) -> None:
    assert folder_of(f"file://{tmp_path}/with%20space") == tmp_path / "with space"
    assert folder_of(str(tmp_path)) == folder_of(tmp_path) == tmp_path
    for wrong in ("", "file://host/share", "file:"):
        with pytest.raises(Invalid):
            folder_of(wrong)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unavailable, match="file"):
        LocalStore(tmp_path / "file")
