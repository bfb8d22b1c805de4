"""Datasets as a user holds them, on a real server."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from tests.support.home import data_home

from leptonai.core.errors import Denied, Invalid, NotFound, Unsupported
from leptonai.core.nouns import Column
from leptonai.core.nouns import Dataset as DatasetRecord
from leptonai.core.refs import DatasetRef
from leptonai.data.spec import Import, SourceFile
from leptonai.data.split import rows_of
from leptonai.sdk import client, runs, uploads
from leptonai.sdk.client import Client
from leptonai.sdk.datasets import Dataset, create_dataset, get_dataset, list_datasets

TABLE = "age,income,city,label\n" + "".join(
    f"{20 + i},{i * 1.5},{['Paris', 'Lyon'][i % 2]},{['no', 'yes', 'no'][i % 3]}\n" for i in range(100)
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with data_home(tmp_path_factory.mktemp("datasets") / "home") as folder:
        yield folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(TABLE)
    return path


def test_the_life_of_a_dataset(home: Path, table: Path) -> None:
    made = create_dataset("people", files=table)
    assert (made.name, made.version, made.rows, len(made), made.target) == ("people", 1, 100, 100, "label")
    assert made.ref == "datasets:/people@v1"
    assert "target: label (category of 2)" in repr(made)
    assert "age: integer, income: number, city: category of 2" in repr(made)
    assert "label" in made._repr_html_()
    assert made.head(2) == [
        {"age": 20, "income": 0.0, "city": "Paris", "label": "no"},
        {"age": 21, "income": 1.5, "city": "Lyon", "label": "yes"},
    ]
    assert "Paris" in repr(made.head(1))
    assert "<td>" in made.head(1)._repr_html_()
    told = made.describe()
    assert told["age"]["mean"] == pytest.approx(69.5)
    assert told["label"]["counts"] == [["no", 67], ["yes", 33]]
    assert "label (target)" in repr(told)
    assert "label (target)" in told._repr_html_()

    assert create_dataset("people", files=[str(table)]).version == 1  # the same content is the version that is there
    table.write_text(TABLE.replace("Lyon", "Metz"))
    again = create_dataset("people", files=table)
    assert (again.version, again.digest != made.digest) == (2, True)
    assert get_dataset("people").version == 2
    assert get_dataset("datasets:/people@v1").digest == made.digest
    assert [d.version for d in list_datasets("people")] == [2, 1]
    again.delete()
    assert get_dataset("people").version == 1
    with pytest.raises(NotFound, match=r"people@v2"):
        get_dataset("people@v2")


def test_parts_of_a_dataset(home: Path, table: Path) -> None:
    made = create_dataset("parts", files=table)
    train, test = made.split(train_size=0.8, seed=7)
    assert (len(train), len(test)) == (80, 20)
    inner, validation = train.split(0.9)
    assert (len(inner), len(validation)) == (72, 8)
    assert "train part of 0.8 : 0.2, seed 7" in repr(train)
    assert "target: label" in repr(inner)
    assert get_dataset(validation.ref).ref == validation.ref
    assert len(get_dataset(validation.ref)) == 8
    with pytest.raises(Unsupported, match=r"get_dataset\('parts@v1'\)\.head\(\)"):
        train.head()
    for wrong in (0, 1, 1.5, -0.1, float("nan"), "most"):
        with pytest.raises(Invalid, match="split: train_size"):
            made.split(train_size=wrong)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="split: seed"):
        made.split(seed=-1)
    for count in (0, 21):
        with pytest.raises(Invalid, match="head shows 1 to 20 rows"):
            made.head(count)


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("kind", ["words", "numbers", "flags", "values"])
def test_the_client_counts_rows_as_a_site_chooses_them(kind: str, stratify: bool) -> None:
    random = np.random.default_rng(3)
    values: Any = {
        "words": random.choice(np.array(["b", "a", "ü", "Z", "10", "9"], object), 313),
        "numbers": random.integers(-3, 12, 313),
        "flags": random.random(313) < 0.1,
        "values": random.random(313),
    }[kind]
    type_ = {"words": "category", "numbers": "category", "flags": "boolean", "values": "number"}[kind]
    counts = [[v, int(np.count_nonzero(values == v))] for v in sorted(set(values.tolist()))]
    column = Column(name="y", type=type_, stats={"counts": counts} if type_ != "number" else {})  # type: ignore[arg-type]
    record = DatasetRecord.new(
        name="n", version=1, digest="d", rows=313, bytes=0, columns=(column,), target="y", manifest="m"
    )
    target = values if type_ != "number" else None
    for size in (0.5, 0.8, 0.33, 0.999, 0.001):
        parts = Dataset(record, client.current()).split(size, stratify=stratify)
        nested = [inner for part in parts for inner in part.split(0.7, seed=2)]
        for part in (*parts, *nested):
            assert len(part) == len(rows_of(DatasetRef.parse(part.ref).splits, 313, target)), part.ref


def test_a_folder_of_images_comes_in_seconds(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = tmp_path / "digits" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype("uint8")).save(folder / f"{number:04}.png")
    start = time.monotonic()
    made = create_dataset("digits", files=tmp_path / "digits")
    took = time.monotonic() - start
    assert len(made) == 1797
    assert {c.name: (c.type.value, c.shape) for c in made.columns} == {
        "image": ("image", (8, 8, 1)),
        "label": ("category", ()),
    }
    assert "image: image 8x8x1" in repr(made)
    assert made.record.source["count"] == 1797
    assert took < 60, took
    first = made.head(1)[0]
    assert (np.array(first["image"]).shape, first["label"]) == ((8, 8, 1), "0")
    assert "<8x8x1 values>" in repr(made.head(1))
    train, test = made.split(0.8)
    assert (len(train), len(test)) == (1438, 359)

    monkeypatch.setattr(uploads, "_NAMED", 10**6)  # the same, with the files in the spec itself
    assert create_dataset("digits", files=tmp_path / "digits").version == 1


def test_what_is_wrong_is_said_in_one_sentence(home: Path, table: Path, tmp_path: Path) -> None:
    table.write_text(TABLE + "1,2\n")
    with pytest.raises(Invalid, match=r"^people\.csv, row 101: it has 2 values, and the header has 4: "):
        create_dataset("bad", files=table)
    with pytest.raises(NotFound):
        get_dataset("bad")
    with pytest.raises(Invalid, match="name 'B/d'"):
        create_dataset("B/d", files=table)
    with pytest.raises(Invalid, match=r"create_dataset: types\.age"):
        create_dataset("bad", files=table, types={"age": "nonsense"})
    with pytest.raises(Invalid, match=r"create_dataset: image_size"):
        create_dataset("bad", files=table, image_size=(1, 2, 3))  # type: ignore[arg-type]


def test_an_import_can_go_on_by_itself(home: Path, table: Path) -> None:
    run = create_dataset("later", files=table, wait=False)
    assert run.stage == "import"
    run.wait(verbose=False)
    assert any("100 rows, 4 columns, target: label (category)" in line for line in run.logs())
    assert len(get_dataset("later")) == 100


def test_a_large_file_on_this_machine_is_read_where_it_lies(
    home: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = create_dataset("sent", files=table)
    monkeypatch.setattr(uploads, "_LARGE", 1)
    monkeypatch.setattr(client.current().http, "upload", lambda data: pytest.fail("it was sent"))
    lies = create_dataset("lies", files=table)
    assert (lies.digest, lies.rows) == (sent.digest, 100)
    assert str(table) not in lies.record.model_dump_json()


def test_a_file_that_changes_while_it_is_imported_is_told(
    home: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_LARGE", 1)
    in_place = uploads._in_place

    def changed(source: uploads.Source) -> SourceFile:
        found = in_place(source)
        table.write_text(TABLE + "1,2,Paris,no\n")
        return found

    monkeypatch.setattr(uploads, "_in_place", changed)
    with pytest.raises(Invalid, match=r"people\.csv was changed while it was imported"):
        create_dataset("changing", files=table)


def test_nobody_else_has_files_of_the_server_read(home: Path, table: Path) -> None:
    via = client.current()
    key = via.http.call("POST", "/keys", json={"name": "other", "scopes": ["*"]})["secret"]
    file = SourceFile(name="x.csv", size=table.stat().st_size, path=str(table), changed=table.stat().st_mtime_ns)
    with Client(via.url, key) as other:
        for local, words in (
            (True, "is on another machine"),
            (False, "paths are read only for programs on the machine"),
        ):
            spec = Import(name="stolen", files=(file,), local=local).model_dump(mode="json")
            with pytest.raises(Denied, match=words):
                runs.follow(other.http, runs.submit(other.http, "import", spec, name="stolen").id, title="t")
