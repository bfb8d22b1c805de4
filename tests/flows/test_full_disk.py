"""A disk that is full: one sentence that says so, nothing half-done, and all goes on once there is room again."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import leptonai
from leptonai.core.errors import DiskFull, LeptonError, NotFound
from leptonai.sdk import client

SIZE = 24 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    try:
        client.connect(home=folder / "home")
        yield folder
    finally:
        client.disconnect()
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Use up what is free, but for `leave` bytes."""
    path = folder / "ballast"
    with path.open("wb") as file:
        free = os.statvfs(folder)
        file.write(b"\0" * max(0, free.f_bavail * free.f_frsize - leave))
    return path


def table(folder: Path, rows: int) -> Path:
    path = folder / f"table-{rows}.csv"
    values = np.random.default_rng(0).normal(size=(rows, 3))
    path.write_text("a,b,label\n" + "\n".join(f"{a},{b},{int(c > 0)}" for a, b, c in values) + "\n")
    return path


def blobs(home: Path) -> list[str]:
    return sorted(str(path) for path in (home / "blobs").rglob("*") if path.is_file())


def test_a_full_disk_stops_an_import_and_nothing_else(small_disk: Path, tmp_path: Path) -> None:
    good = leptonai.create_dataset("good", files=table(tmp_path, 100))
    before = blobs(small_disk / "home")

    with pytest.raises(DiskFull) as caught:  # 25 MB do not fit into what is left
        leptonai.create_dataset("large", files=table(tmp_path, 600_000))
    assert "disk" in caught.value.message
    assert "full" in caught.value.message

    ballast = fill(small_disk)
    with pytest.raises(LeptonError) as small:
        leptonai.create_dataset("small", files=table(tmp_path, 5_000))
    assert "disk" in small.value.message, small.value.message
    assert leptonai.get_dataset("good").digest == good.digest, "what is there can be read"
    assert len(good.head(3)) == 3

    ballast.unlink()
    for name in ("large", "small"):
        with pytest.raises(NotFound):
            leptonai.get_dataset(name)
    assert set(before) <= set(blobs(small_disk / "home"))
    assert leptonai.create_dataset("small", files=table(tmp_path, 5_000)).rows == 5_000


def test_a_full_disk_in_the_middle_of_a_training(small_disk: Path, tmp_path: Path) -> None:
    data = leptonai.create_dataset("t", files=table(tmp_path, 400), types={"label": "category"})

    class Wide(nn.Module):
        """Its checkpoint takes more than what is left."""

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(2, 1500), nn.ReLU(), nn.Linear(1500, 1500), nn.ReLU(), nn.Linear(1500, 2)
            )

        def forward(self, x: object) -> object:
            return self.net(x)

    model = leptonai.Model(Wide())
    model.compile(optimizer="adam", loss="cross_entropy")
    with pytest.raises(LeptonError) as caught:
        model.fit(data, epochs=1)
    assert "disk" in caught.value.message, caught.value.message
    assert caught.value.about.get("run"), "it says which Run"

    small = leptonai.Model(nn.Linear(2, 2))
    small.compile(optimizer="adam", loss="cross_entropy")
    assert len(small.fit(data, epochs=2).history["loss"]) == 2
