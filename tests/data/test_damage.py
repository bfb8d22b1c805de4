"""A version whose blobs were changed, cut, exchanged or are opened with another key: nothing of it is read."""

from pathlib import Path

import numpy as np
import pytest
from tests.support.imports import Importer

from leptonai.core.errors import LeptonError
from leptonai.core.nouns import Dataset

CSV = "a,word,name,y\n" + "".join(f"{n},w{n % 3},n{n},{n % 2}\n" for n in range(24))


def read(files: Importer, dataset: Dataset) -> str:
    """Return "error" or what was read: "right" or "wrong"."""
    try:
        rows = files.open(dataset).read()
    except LeptonError:
        return "error"
    right = rows["a"].tolist() == list(range(24)) and rows["name"].tolist() == [f"n{n}" for n in range(24)]
    return "right" if right else "wrong"


def blobs(files: Importer, dataset: Dataset) -> list[Path]:
    named = dict.fromkeys([dataset.manifest, *dataset.pii, *dataset.shards])
    found = [path for blob in named for path in files.folder_of(blob) if path.is_file()]
    assert len(found) == len(named) >= 5
    return found


@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_any_damage_is_noticed(step: int, files: Importer) -> None:
    made = files.made({"t.csv": CSV}, shard_rows=12, pii=("name",))
    assert read(files, made) == "right"
    bad, tried = [], 0
    for path in blobs(files, made):
        whole = path.read_bytes()
        for at in range(0, len(whole), step):
            for what, data in (
                ("changed", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]), ("cut", whole[:at]), ("grown", whole + whole[:at + 1]),
            ):  # fmt: skip
                path.write_bytes(data)
                tried += 1
                found = read(files, made)
                # Nobody reads the four letters that a Parquet file begins with: without them all rows are as they were.
                if found != "error" and not (found == "right" and at < 4 and what == "changed"):
                    bad.append((path.name[:8], at, what, found))
        path.write_bytes(whole)
    assert bad == [], f"{len(bad)}/{tried}"
    assert tried >= 150
    assert read(files, made) == "right"


def test_blobs_that_are_exchanged_are_noticed(files: Importer) -> None:
    made = files.made({"t.csv": CSV}, shard_rows=12, pii=("name",))
    later = files.made({"t.csv": CSV.replace("w0", "w9")}, shard_rows=12, pii=("name",))
    paths = [*blobs(files, made), *blobs(files, later)]
    bad = []
    own = {path: path.read_bytes() for path in paths}
    of_made = set(blobs(files, made))
    for one in of_made:
        for other in paths:
            if one != other and own[one] != own[other]:
                one.write_bytes(own[other])
                if (found := read(files, made)) != "error":
                    bad.append((one.name[:8], other.name[:8], found))
        one.write_bytes(own[one])
    assert bad == []
    assert read(files, made) == "right"


def test_other_keys_open_nothing(files: Importer) -> None:
    made = files.made({"t.csv": CSV}, shard_rows=12, pii=("name",))
    keys = files.handle.folder / "keys"
    lines = keys.read_text().splitlines()
    random = np.random.default_rng(0)
    for wrong in (random.bytes(32).hex(), "00" * 32):
        keys.write_text("".join(f'{line[: line.rindex(", ")]}, "{wrong}"]\n' for line in lines))
        assert read(files, made) == "error"
