"""Rows out of the encrypted store, on a real server: tensors, frames, files, metadata; and who may not read."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars  # noqa: F401  # it sets a variable when it is first imported
import pyarrow.parquet as pq
import pytest
from tests.support.home import data_home
from tests.support.warm import keras_here, libraries

from leptonai.core.errors import Denied, Invalid, Unsupported
from leptonai.sdk import client
from leptonai.sdk.datasets import Dataset, create_dataset

ROWS = 500


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    libraries()
    with data_home(tmp_path_factory.mktemp("readable") / "home") as folder:
        yield folder


@pytest.fixture(scope="module")
def table(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("files") / "people.csv"
    lines = ["age,income,city,member,since,note,=label"]
    cities = ["Paris", "Lyon", ""]
    notes = ["=1+1", "plain", "-3.5", "@SUM(A1)", "+49 30 1234", "tab"]
    lines += [
        f"{20 + i},{'' if i % 7 == 0 else i * 1.5},{cities[i % 3]},{'' if i % 11 == 0 else ['no', 'true'][0] and str(i % 2 == 0).lower()},"
        f"2026-01-{i % 28 + 1:02},{notes[i % 6]} {i if i % 6 not in (2,) else ''},{['no', 'yes'][i % 2]}"
        for i in range(ROWS)
    ]
    path.write_text("\n".join(lines) + "\n")
    return create_dataset("people", files=path, target="=label", types={"note": "text"})


@pytest.fixture(scope="module")
def images(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("files") / "digits.npz"
    x = np.random.default_rng(0).integers(0, 256, (ROWS, 6, 5), dtype=np.uint8)
    np.savez(path, x=x, y=np.arange(ROWS) % 10)
    return create_dataset("digits", files=path, target="y", types={"y": "category"})


def test_tensors_come_as_promised_in_each_epoch(table: Dataset) -> None:
    import torch

    frame = table.polars()
    loader = table.torch(64, shuffle=True, seed=3)
    assert len(loader) == -(-ROWS // 64)
    assert loader.classes["city"] == ("Lyon", "Paris")
    epochs = []
    for _ in range(2):
        batches = list(loader)
        whole: dict[str, Any] = {n: torch.cat([b[n] for b in batches]) for n in batches[0] if n != "note"}
        epochs.append(whole["age"].tolist())
        rows = whole["age"].numpy() - 20
        assert (whole["age"].dtype, whole["income"].dtype, whole["city"].dtype) == (
            torch.int64,
            torch.float32,
            torch.int64,
        )
        assert np.array_equal(np.isnan(whole["income"].numpy()), rows % 7 == 0)
        assert np.array_equal(whole["city"].numpy(), np.array([1, 0, -1])[rows % 3])
        assert np.array_equal(whole["member"].numpy(), np.where(rows % 11 == 0, -1, rows % 2 == 0))
        assert [frame["note"][int(row)] for row in rows] == [note for batch in batches for note in batch["note"]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20, 20 + ROWS))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("memory", [None, 0])
def test_a_place_is_saved_and_gone_on_from_and_batches_are_ones_own(images: Dataset, memory: int | None) -> None:
    whole = images.arrow()["x"].combine_chunks().to_numpy_ndarray()
    for shuffle in (False, True):
        told = images.torch(64, shuffle=shuffle, memory=memory)
        first = iter(told)
        for _ in range(3):
            batch = next(first)
            batch["x"].zero_()  # it is ours
        state = told.state_dict()
        assert state["row"] == 192
        rest = [batch["x"].clone() for batch in first]
        other = images.torch(64, shuffle=shuffle, memory=memory)
        other.load_state_dict(json.loads(json.dumps(state)))
        again = list(other)
        assert len(again) == len(rest) == 5
        assert all((one == two["x"]).all() for one, two in zip(rest, again, strict=True))
        told.load_state_dict({"epoch": 0, "row": 0, "window": state["window"]})
        rows = np.concatenate([batch["x"].numpy() for batch in told])
        assert sorted(map(bytes, rows)) == sorted(map(bytes, whole))


def test_a_data_loader_takes_it_and_its_processes_share_the_rows(images: Dataset) -> None:
    from torch.utils.data import DataLoader

    found = list(DataLoader(images.torch(64), batch_size=None))
    assert sum(len(batch["y"]) for batch in found) == ROWS
    ranks = [
        [n for b in images.torch(32, shuffle=True, rank=rank, world=2) for n in map(bytes, b["x"].numpy())]
        for rank in (0, 1)
    ]
    assert len(ranks[0]) == len(ranks[1]) == ROWS // 2
    assert not set(ranks[0]) & set(ranks[1])
    shared = [batch["y"] for batch in DataLoader(images.torch(64), batch_size=None, num_workers=2)]
    assert sum(map(len, shared)) == ROWS


def test_a_part_is_what_training_learns_from(table: Dataset) -> None:
    train, test = table.split(0.8, seed=1)
    ages = [set(part.polars(["age"])["age"].to_list()) for part in (train, test)]
    assert (len(ages[0]), len(ages[1])) == (400, 100)
    assert not ages[0] & ages[1]
    assert sum(len(b["age"]) for b in test.torch(30)) == 100


@pytest.mark.parametrize("memory", [None, 0])
def test_keras_learns_from_it(images: Dataset, table: Dataset, memory: int | None) -> None:
    keras = keras_here()
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    data = images.keras(64, shuffle=True, memory=memory)
    history = model.fit(data, epochs=2, verbose=0, shuffle=memory is None)
    assert len(history.history["loss"]) == 2
    assert data.batches.epoch >= 2
    data.on_epoch_end()
    x, y = table.keras(50, columns=["age", "income", "city", "=label"])[0]
    assert (x.shape, x.dtype, y.dtype) == ((50, 3), np.float32, np.int64)
    with pytest.raises(Unsupported, match="column 'note'"):
        table.keras()


def test_frames(table: Dataset, images: Dataset) -> None:
    frame = table.polars(["age", "city", "since"])
    assert frame.shape == (ROWS, 3)
    assert frame["city"][:3].to_list() == ["Paris", "Lyon", None]
    assert str(frame["since"].dtype).startswith("Datetime")
    assert images.polars()["x"].to_numpy().shape == (ROWS, 6, 5, 1)
    pandas = images.pandas()
    assert pandas["x"][0].shape == (6, 5, 1)
    assert pandas["y"].tolist()[:3] == [0, 1, 2]
    with pytest.raises(Invalid, match="no column 'nope'"):
        table.arrow(["nope"])


def test_a_csv_file_holds_no_formula_and_its_numbers_stay(table: Dataset, tmp_path: Path) -> None:
    assert table.to_csv(tmp_path / "out.csv") == ROWS
    rows = list(csv.reader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    assert rows[0] == ["age", "income", "city", "member", "since", "note", "'=label"]
    notes = [row[5] for row in rows[1:7]]
    assert [note[0] for note in notes] == ["'", "p", "-", "'", "'", "t"]
    assert float(notes[2]) == -3.5
    assert rows[1][4].startswith("2026-01-01T00:00:00")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_files_come_back_as_the_same_rows(table: Dataset, images: Dataset, tmp_path: Path) -> None:
    assert table.to_parquet(tmp_path / "out.parquet") == ROWS
    back = create_dataset("back", files=tmp_path / "out.parquet", target="=label", types={"note": "text"})
    assert back.polars().equals(table.polars())
    with pytest.raises(Unsupported, match="column 'x' holds image values"):
        images.to_csv(tmp_path / "no.csv")
    assert images.to_csv(tmp_path / "y.csv", columns=["y"]) == ROWS
    assert images.to_parquet(tmp_path / "x.parquet") == ROWS
    assert pq.read_table(tmp_path / "x.parquet")["x"].combine_chunks().to_numpy_ndarray().shape == (ROWS, 6, 5, 1)
    with pytest.raises(Invalid, match="cannot be written"):
        table.to_parquet(tmp_path / "nowhere" / "x.parquet")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.filterwarnings("ignore")  # of mlcroissant and what it stands on
def test_mlcroissant_takes_the_metadata(table: Dataset, images: Dataset, tmp_path: Path) -> None:
    import mlcroissant

    for dataset in (table, images):
        assert mlcroissant.Dataset(jsonld=dataset.croissant()).metadata.name == dataset.name
        path = tmp_path / f"{dataset.name}.croissant"
        assert dataset.to_croissant(path) == ROWS
        told = mlcroissant.Dataset(jsonld=path)
        assert not told.metadata.issues.errors
        first = next(iter(told.records("rows")))
        assert len(first) == len(dataset.columns)


def test_who_may_not_read_gets_neither_keys_nor_shards(home: Path, table: Dataset) -> None:
    here = client.current()
    made = here.http.call("POST", "/keys", json={"name": "reader", "scopes": ["dataset:read"]})
    other = here.http.call("POST", "/keys", json={"name": "watcher", "scopes": ["model:read"]})
    from leptonai.sdk.http import Http

    reader, watcher = Http(here.url, made["secret"]), Http(here.url, other["secret"])
    told = reader.call("GET", f"/datasets/{table.record.id}/shards")
    assert told["store"] is None
    assert reader.download(f"/datasets/{table.record.id}/shards/0")[:4] == b"PARE"
    for path in ("shards", "shards/0"):
        with pytest.raises(Denied, match="dataset:read"):
            watcher.call("GET", f"/datasets/{table.record.id}/{path}")
    from leptonai.core.errors import NotFound

    with pytest.raises(NotFound, match="has shards 0 to 0"):
        reader.download(f"/datasets/{table.record.id}/shards/1")
    read = here.http.call("GET", "/audit", params={"limit": 100})["items"]
    assert any(row["name"] == "dataset.read" and row["by"] == "reader" for row in read)
    remote = client.Client(here.url, made["secret"], None)
    remote.home = home / "elsewhere"
    far = Dataset(table.record, remote)
    assert far.polars().equals(table.polars())
    kept = list((home / "elsewhere" / "cache" / "shards").glob("[0-9a-f]*"))
    assert [path.name for path in kept] == list(table.record.shards)
    for connection in (reader, watcher, remote):
        connection.close()


def test_the_command_writes_files(table: Dataset, tmp_path: Path, capsys: Any) -> None:
    from typer.testing import CliRunner

    from leptonai.cli.main import app as main

    for name in ("a.parquet", "a.csv", "b.croissant"):
        done = CliRunner().invoke(main, ["dataset", "export", "people", "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).stat().st_size > 0
    assert (tmp_path / "b.parquet").exists()
    assert json.loads((tmp_path / "b.croissant").read_text())["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    done = CliRunner().invoke(main, ["dataset", "export", "people", "-o", str(tmp_path / "a.xlsx")])
    assert done.exit_code != 0


def test_a_personal_column_is_read_by_who_may_or_masked(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("name,age,y\n" + "".join(f"n{i},{20 + i},{i % 2}\n" for i in range(40)))
    made = create_dataset("patients", files=path, target="y", pii=["name"])
    assert made.polars()["name"][3] == "n3"
    here = client.current()
    key = here.http.call("POST", "/keys", json={"name": "plain", "scopes": ["dataset:read"]})["secret"]
    other = client.Client(here.url, key)
    other.home = tmp_path
    theirs = Dataset(made.record, other)
    assert theirs.polars(["age", "y"]).shape == (40, 2)
    with pytest.raises(Denied, match="dataset:pii"):
        theirs.polars()
    assert theirs.polars(mask=True)["name"].null_count() == 40
    assert next(iter(theirs.torch(8, mask=True)))["name"] == [None] * 8
    other.close()
