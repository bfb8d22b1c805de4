"""Which files are meant, how they are cut into parts, and that nothing is sent twice."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leptonai.core.errors import Invalid
from leptonai.data.spec import SourceFile
from leptonai.sdk import uploads
from leptonai.sdk.sources import Source, sources
from leptonai.sdk.uploads import upload


class Server:
    """Keeps what is sent, by its bytes, as the server does; fails when it is told to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.sent = 0
        self.fails_at = fails_at
        self._lock = threading.Lock()

    def upload(self, data: bytes) -> str:
        name = f"blob{hash(data)}"
        with self._lock:
            if name not in self.blobs:
                if self.fails_at is not None and self.sent >= self.fails_at:
                    raise ConnectionError("cut")
                self.blobs[name] = data
                self.sent += len(data)
        return name

    def file(self, source: SourceFile) -> bytes:
        return b"".join(self.blobs[part] for part in source.parts)[source.offset : source.offset + source.size]


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def names(found: list[Source]) -> list[tuple[str, str | None]]:
    return [(source.name, source.label) for source in found]


def test_files_folders_and_images_by_class(tmp_path: Path) -> None:
    write(tmp_path, "t/b.csv", "t/a.CSV.GZ", "t/readme.md", "t/.hidden.csv", "t/plots/x.txt")
    write(tmp_path, "i/cat/2.png", "i/cat/.DS_Store", "i/dog/1.JPG", "i/dog/note.txt", "i/.git/x.png")
    assert names(sources(tmp_path / "t")) == [("a.CSV.GZ", None), ("b.csv", None)]
    assert names(sources(str(tmp_path / "i"))) == [("cat/2.png", "cat"), ("dog/1.JPG", "dog"), ("dog/note.txt", "dog")]
    assert names(sources([tmp_path / "t" / "b.csv", str(tmp_path / "t" / "a.CSV.GZ")])) == [
        ("b.csv", None),
        ("a.CSV.GZ", None),
    ]
    write(tmp_path, "u/b.csv")
    told = names(sources([tmp_path / "t" / "b.csv", tmp_path / "u" / "b.csv"]))
    assert told == [(str(tmp_path / "t" / "b.csv"), None), (str(tmp_path / "u" / "b.csv"), None)]


@pytest.mark.parametrize(
    ("make", "given", "words"),
    [
        ([], [], ["no file is given"]),
        ([], "nowhere.csv", ["nowhere.csv", "no such file"]),
        (["a/x.txt"], "a", ["no tables", "no images in class folders", "1.png"]),
        (["a/x.png"], "a", ["no images in class folders"]),
        (["a/cat/1.png", "a/t.csv"], "a", ["t.csv", "cat", "name the one"]),
        (["a/cat/1.png", "a/lost.png"], "a", ["lost.png", "beside the class folders"]),
        (["a.png"], "a.png", ["a.png", "one image", "folder"]),
        (["a.xlsx"], "a.xlsx", ["a.xlsx", "not a kind", ".csv", ".parquet"]),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_sent(
    make: list[str], given: Any, words: list[str], tmp_path: Path
) -> None:
    write(tmp_path, *make)
    with pytest.raises(Invalid) as caught:
        sources(str(tmp_path / given) if isinstance(given, str) else given)
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, "i/cat/1.png")
    for name in ("t.csv", "i/cat/2.png"):
        (tmp_path / name).touch()
        with pytest.raises(Invalid, match=r"(t\.csv|2\.png) is empty"):
            sources(tmp_path / name.partition("/")[0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (write(tmp_path, "t.csv") / "t.csv").chmod(0)
    with pytest.raises(Invalid, match=r"t\.csv cannot be read"):
        upload(Server(), sources(tmp_path / "t.csv"), "t")  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=12),
    part=st.integers(1, 30),
    named=st.sampled_from([0, 1000]),
)
def test_every_file_arrives_as_it_is(
    sizes: list[int], part: int, named: int, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART", part)
    monkeypatch.setattr(uploads, "_NAMED", named)
    folder = tmp_path_factory.mktemp("files")
    wrote = {f"{n:02}.csv": bytes((n * 7 + i) % 251 for i in range(size)) for n, size in enumerate(sizes)}
    for name, data in wrote.items():
        (folder / name).write_bytes(data)
    server = Server()
    spec = upload(server, sources(folder), "t")  # type: ignore[arg-type]
    if named:
        files = spec["files"]
    else:
        import json

        files = [SourceFile.model_validate(item) for item in json.loads(server.blobs[spec["index"]])]
        assert {blob for file in files for blob in file.parts} == set(spec["parts"])
    assert {file.name: server.file(file) for file in files} == wrote
    assert all(len(blob) <= part for blob in map(server.blobs.__getitem__, {b for f in files for b in f.parts}))


def test_the_same_file_twice_is_sent_once_and_comes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART", 8)
    (tmp_path / "t.csv").write_bytes(b"0123456789")
    server = Server()
    files = upload(server, sources([tmp_path / "t.csv", tmp_path / "t.csv"]), "t")["files"]  # type: ignore[arg-type]
    assert [server.file(file) for file in files] == [b"0123456789"] * 2
    assert server.sent <= 12


def test_an_upload_that_was_cut_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART", 100)
    monkeypatch.setattr(uploads, "_AT_ONCE", 1)
    data = bytes(i * 31 % 251 for i in range(1000))
    (tmp_path / "t.csv").write_bytes(data)
    server = Server(fails_at=600)
    with pytest.raises(ConnectionError):
        upload(server, sources(tmp_path / "t.csv"), "t")  # type: ignore[arg-type]
    server.fails_at, before = None, server.sent
    files = upload(server, sources(tmp_path / "t.csv"), "t")["files"]  # type: ignore[arg-type]
    assert (before, server.sent) == (600, 1000)
    assert server.file(files[0]) == data
