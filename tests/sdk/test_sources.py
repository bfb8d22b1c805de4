"""What a user may mean by the files of a dataset: archives, tables in memory, queries, buckets; on a real server and a real S3."""

import io
import sqlite3
import stat
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from obstore.store import S3Store
from PIL import Image
from tests.support.home import data_home
from tests.support.s3 import ACCESS, BUCKET, S3, SECRET, s3_server

from leptonai.core.errors import Invalid, TooLarge, Unsupported
from leptonai.sdk import archives
from leptonai.sdk.datasets import create_dataset, get_dataset
from leptonai.sdk.sources import Source, sources

FRAME = pd.DataFrame({"age": [1, 2, 3, 4], "city": ["a", "b", None, "a"], "y": [0, 1, 0, 1]})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with data_home(tmp_path_factory.mktemp("sources") / "home") as folder:
        yield folder


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def pixels(value: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["pandas", "polars", "lazy", "arrow", "numpy"])
def test_tables_in_memory(kind: str, home: Path) -> None:
    given: Any = {
        "pandas": lambda: FRAME,
        "polars": lambda: pl.from_pandas(FRAME),
        "lazy": lambda: pl.from_pandas(FRAME).lazy(),
        "arrow": lambda: pa.Table.from_pandas(FRAME),
        "numpy": lambda: {
            "age": FRAME["age"].to_numpy(),
            "city": np.array(["a", "b", "c", "a"]),
            "y": FRAME["y"].to_numpy(),
        },
    }[kind]()
    made = create_dataset(f"memory-{kind}", given)
    assert [row["age"] for row in made.head(4)] == [1, 2, 3, 4]
    assert (made.rows, made.target, made.columns[1].type.value) == (4, "y", "category")


def test_what_cannot_be_written_is_named(home: Path) -> None:
    with pytest.raises(Invalid, match="table 1 cannot be written as Parquet"):
        create_dataset("odd", pd.DataFrame({"a": [1, "x", {}], "y": [1, 2, 3]}))
    with pytest.raises(Invalid, match="array 'a' holds Python objects"):
        create_dataset("odd", {"a": np.array([1, "x", {}], object)})
    with pytest.raises(Invalid, match="table 1 has no columns"):
        create_dataset("odd", {})


def test_rows_are_appended_and_data_is_shared(home: Path, tmp_path: Path) -> None:
    first = create_dataset("grows", FRAME, types={"city": "category"})
    more = tmp_path / "more.csv"
    more.write_text("y,age,city\n1,50,c\n0,,a\n")
    second = first.append(more)
    assert (second.version, second.rows, second.target) == (2, 6, "y")
    assert second.record.shards[: len(first.record.shards)] == first.record.shards
    assert len(second.record.shards) == 2
    by_name = {column.name: column for column in second.columns}
    assert by_name["city"].categories == ("a", "b", "c")
    assert by_name["age"].stats["missing"] == 1
    assert by_name["age"].stats["max"] == 50
    assert by_name["age"].stats["mean"] == pytest.approx(12)
    assert second.record.source["base"] == first.ref
    third = get_dataset("grows").append(FRAME)
    assert (third.version, third.rows) == (3, 10)
    for text, words in (
        ("y,age\n1,2\n", "lacks the column 'city'"),
        ("y,age,city\nno,1,a\n", "column 'y' holds whole numbers in grows@v3 and words such as 'no'"),
    ):
        more.write_text(text)
        with pytest.raises(Invalid, match=words):
            third.append(more)
    with pytest.raises(Unsupported, match="whole version"):
        third.split()[0].append(more)
    assert get_dataset("grows").version == 3


def test_archives(home: Path, tmp_path: Path) -> None:
    images = zipped(
        tmp_path / "i.zip",
        **{"data/cat/1.png": b"", "data/cat/2.png": pixels(1), "data/dog/1.png": pixels(2), "data/.x/y.png": b"no"},
    )
    with pytest.raises(Invalid, match=r"cat/1\.png is empty"):
        create_dataset("zip", images)
    images = zipped(
        tmp_path / "i.zip", **{"data/cat/2.png": pixels(1), "data/dog/1.png": pixels(2), "__MACOSX/x": b"no"}
    )
    made = create_dataset("zip", images)
    assert [column.name for column in made.columns] == ["image", "label"]
    assert made.columns[1].categories == ("cat", "dog")
    tables = zipped(tmp_path / "t.zip", **{"b.csv": b"a,y\n3,1\n", "a.csv": b"a,y\n1,0\n2,1\n", "read.me": b"x"})
    assert [row["a"] for row in create_dataset("zip-tables", tables).head(5)] == [1, 2, 3]


def test_images_with_boxes(home: Path, tmp_path: Path) -> None:
    archive = zipped(
        tmp_path / "yolo.zip",
        **{
            "set/images/1.png": pixels(1),
            "set/images/2.png": pixels(2),
            "set/labels/1.txt": b"0 0.5 0.5 0.5 0.5\n",
            "set/classes.txt": b"tree\n",
        },
    )
    made = create_dataset("boxes", archive, target="")
    assert [(c.name, c.type.value) for c in made.columns] == [("image", "image"), ("boxes", "boxes")]
    assert made.head(2)[0]["boxes"] == [["tree", 0.25, 0.25, 0.75, 0.75]]
    assert "boxes of 1 classes" in repr(made)


@pytest.mark.parametrize(
    ("name", "words"),
    [("../x.csv", "leads out"), ("/etc/x.csv", "leads out"), ("a\\..\\x.csv", "leads out"), ("C:/x.csv", "leads out")],
)
def test_names_in_an_archive_never_lead_out_of_it(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=words):
        sources(zipped(tmp_path / "x.zip", **{name: b"a,y\n1,2\n"}), ExitStack())


def test_archives_that_are_none_or_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\3\4 not really")
    with pytest.raises(Invalid, match="not a zip archive"):
        sources(path, ExitStack())
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a.csv")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Invalid, match="is a link"):
        sources(path, ExitStack())
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.csv", "a,y\n1,2\n")
        archive.writestr("a.csv", "a,y\n3,4\n")
    with pytest.raises(Invalid, match="twice"):
        sources(path, ExitStack())
    monkeypatch.setattr(archives, "MAX_SMALL", 1 << 20)
    with pytest.raises(TooLarge, match="unpacks to 4 MiB"):
        sources(zipped(path, **{"a.csv": b"0" * (4 << 20)}), ExitStack())


def test_a_query(home: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "d.db")) as database:
        database.execute("create table people (age integer, income real, city text, y integer)")
        database.executemany(
            "insert into people values (?, ?, ?, ?)",
            [(i, None if i < 60_000 else i * 0.5, f"c{i % 3}", i % 2) for i in range(120_000)],
        )
        database.commit()
    url = f"sqlite:///{tmp_path / 'd.db'}"
    made = create_dataset("asked", sql="select * from people order by age", url=url)
    income = made.columns[1]
    assert (made.rows, income.type.value, income.stats["missing"], income.stats["max"]) == (
        120_000,
        "number",
        60_000,
        59_999.5,
    )
    assert url not in made.record.model_dump_json()
    for sql, words in (
        ("select nothing from people", "the query failed: .*nothing"),
        ("select * from people where age < 0", "no rows"),
    ):
        with pytest.raises(Invalid, match=words):
            create_dataset("asked", sql=sql, url=url)
    with pytest.raises(Invalid, match="needs the url"):
        create_dataset("asked", sql="select 1")
    with pytest.raises(Invalid, match="give files, or sql and url"):
        create_dataset("asked")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def test_files_in_a_bucket(home: Path, s3: S3) -> None:
    store = S3Store(
        BUCKET,
        endpoint=s3.endpoint,
        region="us-east-1",
        access_key_id=ACCESS,
        secret_access_key=SECRET,
        client_options={"allow_http": True},
    )
    for name, data in {"in/cat/1.png": pixels(1), "in/dog/1.png": pixels(2), "one/t.csv": b"a,y\n1,0\n2,1\n"}.items():
        obstore.put(store, name, data)
    query = s3.url("in").partition("?")[2]
    made = create_dataset("bucket", f"s3://{BUCKET}/in?{query}")
    assert made.columns[1].categories == ("cat", "dog")
    assert create_dataset("bucket-one", f"s3://{BUCKET}/one/t.csv?{query}").rows == 2
    assert SECRET not in made.record.model_dump_json()
    with pytest.raises(Invalid, match=r"there is no file there|cannot be read") as caught:
        create_dataset("bucket", f"s3://{BUCKET}/nothing?{query}")
    assert SECRET not in caught.value.message
    with pytest.raises(Invalid, match="cannot be read") as caught:
        create_dataset("bucket", s3.url("in", secret="wrong"))
    assert "wrong" not in caught.value.message


def test_names_are_told_apart(tmp_path: Path) -> None:
    found = sources([{"a": np.arange(2)}, {"a": np.arange(3)}])
    assert [it.name for it in found] == ["table-1.npz", "table-2.npz"]
    assert all(isinstance(it, Source) and it.size for it in found)
