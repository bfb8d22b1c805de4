"""Shards kept near: fetched once, within the limit, sound after anything that ends a process."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from tests.support.imports import Importer, npz

from leptonai.core.errors import DiskFull, NotFound
from leptonai.data.loader_cache import NearStore, near
from leptonai.data.reader import open_dataset


class Far:
    """A store on another machine."""

    def __init__(self, *blobs: bytes):
        self.blobs = {hashlib.sha256(data).hexdigest(): data for data in blobs}
        self.opened: list[str] = []

    def open(self, id: str) -> BinaryIO:
        self.opened.append(id)
        if id not in self.blobs:
            raise NotFound(f"there is no blob {id}")
        return io.BytesIO(self.blobs[id])


def made(folder: Path, limit: int = 1000, count: int = 6) -> tuple[Any, Far, list[str]]:
    far = Far(*(bytes([number]) * 300 for number in range(count)))
    return NearStore(far, folder, limit), far, list(far.blobs)  # type: ignore[arg-type]


def test_a_blob_is_fetched_once_and_what_was_used_least_recently_leaves(tmp_path: Path) -> None:
    store, far, ids = made(tmp_path)
    for id in (*ids[:3], ids[0]):
        assert store.path(id).read_bytes() == far.blobs[id]
    with store.open(ids[0]) as file:
        assert file.read() == far.blobs[ids[0]]
    assert far.opened == ids[:3]
    assert store.path(ids[3]).is_file()  # the fourth needs room: the second has waited longest
    assert {path.name for path in tmp_path.iterdir()} == {ids[0], ids[2], ids[3], "lock"}


def test_one_larger_than_the_limit_is_used_and_leaves_with_the_next(tmp_path: Path) -> None:
    store, _, ids = made(tmp_path, limit=10)
    assert store.path(ids[0]).stat().st_size == 300
    store.path(ids[1])
    assert not (tmp_path / ids[0]).exists()


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    store, far, ids = made(tmp_path)
    store.path(ids[0]).write_bytes(b"x" * 300)
    again, _, _ = made(tmp_path)
    again._store = far
    assert again.path(ids[0]).read_bytes() == far.blobs[ids[0]]
    assert far.opened == [ids[0]] * 2


def test_what_is_not_there_or_is_no_id_leaves_nothing(tmp_path: Path) -> None:
    store, _, _ = made(tmp_path)
    for id in ("0" * 64, "../secret", ""):
        with pytest.raises(NotFound):
            store.path(id)
    assert {path.name for path in tmp_path.iterdir()} <= {"lock"}


def test_threads_fetch_a_blob_once(tmp_path: Path) -> None:
    store, far, ids = made(tmp_path, limit=10_000)
    threads = [threading.Thread(target=lambda: [store.path(id) for id in ids]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(far.opened) == sorted(ids)


def test_a_disk_that_is_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _, ids = made(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("leptonai.data.loader_cache.shutil.copyfileobj", full)
    with pytest.raises(DiskFull, match="LEPTONAI_DATA_CACHE=0"):
        store.path(ids[0])
    assert list(tmp_path.iterdir()) == []


CHILD = """
import hashlib, io, sys
from pathlib import Path
from leptonai.data.loader_cache import NearStore
blobs = {hashlib.sha256(data).hexdigest(): data for data in (bytes([number]) * 300 for number in range(6))}
class Far:
    def open(self, id):
        return io.BytesIO(blobs[id])
store = NearStore(Far(), Path(sys.argv[1]), 900)
print("ready", flush=True)
while True:
    for id in blobs:
        store.path(id)
"""


def test_killed_at_any_time_it_is_sound_and_within_its_limit(tmp_path: Path) -> None:
    for turn in range(5):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.01 + 0.013 * turn)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        files = [path for path in tmp_path.iterdir() if len(path.name) == 64]
        assert sum(path.stat().st_size for path in files) <= 900
        assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in files)
    for path in tmp_path.glob(".*"):
        os.utime(path, (0, 0))
    store, far, ids = made(tmp_path, limit=900)
    store._make_room(0)
    assert not list(tmp_path.glob(".*"))
    assert store.path(ids[0]).read_bytes() == far.blobs[ids[0]]


def test_a_dataset_is_read_through_it(files: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 256, (90, 4, 4), dtype=np.uint8)
    dataset = files.made({"i.npz": npz(x=x, y=np.arange(90) % 3)}, shard_rows=30)
    local = files.handle.raw
    assert near(local, tmp_path) is local
    monkeypatch.delattr(type(local), "path")  # as if it were far
    fetched: list[str] = []
    was = type(local).open
    monkeypatch.setattr(type(local), "open", lambda self, id: fetched.append(id) or was(self, id))
    for _ in range(2):
        assert np.array_equal(open_dataset(dataset, (), files.handle).read()["x"][..., 0], x)
    assert sorted(id for id in fetched if id in dataset.shards) == sorted(dataset.shards)
    monkeypatch.setenv("LEPTONAI_DATA_CACHE", "0")
    assert near(local, tmp_path) is local
