"""JSON Lines, Arrow, IDX, packed files, texts, sounds, tables of labels: what is read, and what is said of those that cannot be."""

import bz2
import gzip
import io
import json
import lzma
import math
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.imports import Importer, picture

from leptonai.core.errors import Invalid, TooLarge
from leptonai.data import jsonl_table, tables
from leptonai.data.jsonl_table import read_jsonl
from leptonai.data.spec import SourceFile

ROWS = [{"age": i, "income": i * 1.5, "city": ["Paris", "Lyon"][i % 2], "label": i % 2} for i in range(40)]
CSV = "age,income,city,label\n" + "".join(f"{r['age']},{r['income']},{r['city']},{r['label']}\n" for r in ROWS)
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


def arrow(table: pa.Table, *, stream: bool = False) -> bytes:
    out = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return out.getvalue()


def idx(array: Any) -> bytes:
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def sound(samples: Any, rate: int = 8000, kind: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.asarray(samples, np.float32), rate, format=kind)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.jsonl", JSONL.encode()),
        ("t.ndjson.gz", gzip.compress(JSONL.encode())),
        ("t.csv.bz2", bz2.compress(CSV.encode())),
        ("t.csv.xz", lzma.compress(CSV.encode())),
        ("t.csv.zst", pa.compress(CSV.encode(), "zstd", asbytes=True)),
        ("t.arrow", arrow(pa.Table.from_pylist(ROWS))),
        ("t.feather", arrow(pa.Table.from_pylist(ROWS), stream=True)),
    ],
)
def test_the_same_rows_from_any_kind_of_file(name: str, data: bytes, files: Importer) -> None:
    made = files.made({name: data})
    assert [(c.name, c.type.value) for c in made.columns] == [
        ("age", "integer"), ("income", "number"), ("city", "category"), ("label", "category"),
    ]  # fmt: skip
    rows = files.open(made).read()
    assert {column: values.tolist() for column, values in rows.items()} == {
        column: [row[column] for row in ROWS] for column in ROWS[0]
    }


def test_json_lines_have_missing_fields_lists_and_objects(files: Importer) -> None:
    lines = [
        {"a": 1, "v": [1, 2], "o": {"x": 1.5, "y": {"z": "w"}}, "when": "2026-01-31T10:00:00", "y": 0},
        {"v": [3, 4], "o": {"x": None, "y": {"z": "q"}}, "when": None, "y": 1},
    ]
    rows = files.read({"t.jsonl": "\n\n".join(json.dumps(line) for line in lines)})
    np.testing.assert_array_equal(rows["a"], [1, np.nan])
    np.testing.assert_array_equal(rows["v"], np.array([[1, 2], [3, 4]], np.float32), strict=True)
    assert rows["o.y.z"].tolist() == ["w", "q"]
    assert rows["when"].tolist()[0] == 1769853600000000


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"n": st.integers(-(2**50), 2**50), "s": st.text(max_size=9).map("s{}".format)}, optional={"b": st.booleans()}),
        min_size=1, max_size=40,
    ),
    block=st.integers(80, 300),
)  # fmt: skip
def test_json_lines_are_the_same_in_blocks(rows: list[dict[str, Any]], block: int) -> None:
    rows[0].setdefault("b", True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    found = pa.concat_tables(read_jsonl("t.jsonl", io.BytesIO(data), block), promote_options="permissive")
    assert found.to_pylist() == [{"b": None} | row for row in rows] or [
        {key: row.get(key) for key in ("n", "s", "b")} for row in found.to_pylist()
    ] == [{key: row.get(key) for key in ("n", "s", "b")} for row in rows]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.jsonl", b'{"a": 1}\n{"a": \n', ["t.jsonl, row 2", "not JSON"]),
        ("t.jsonl", b'{"a": 1, "y": 1}\n[1, 2]\n', ["t.jsonl, row 2", "no object"]),
        ("t.jsonl", b'{"a": 1, "y": 1}\n{"a": "x", "y": 1}\n', ["t.jsonl, row 2", "'a'", "'x', text", "'1'", "one type"]),
        ("t.jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", ["t.jsonl, row 1", "nested"]),
        ("t.jsonl", b'{"a": [1, 2]}\n{"a": [1]}\n', ["t.jsonl", "'a'", "one length"]),
        ("t.jsonl", b"\n\n", ["t.jsonl", "no rows"]),
        ("t.arrow", b"ARROW1 but not really", ["t.arrow", "not an Arrow file"]),
        ("t.arrow", arrow(pa.Table.from_pylist(ROWS))[:-300], ["t.arrow", "not an Arrow file"]),
        ("t.csv.zst", b"not zstd", ["t.csv.zst", "not a compressed file"]),
        ("x-images-ubyte", b"\1\2\3\4", ["x-images-ubyte", "not an IDX file"]),
        ("x-images-ubyte", idx(np.zeros((5, 4, 4), np.uint8))[:-3], ["x-images-ubyte", "ends early"]),
        ("x-images-ubyte", bytes([0, 0, 8, 3]) + struct.pack(">III", 2**31, 2**31, 9), ["x-images-ubyte"]),
    ],
)  # fmt: skip
def test_bad_files_are_named_in_one_sentence(name: str, data: bytes, words: list[str], files: Importer) -> None:
    with pytest.raises(Invalid) as caught:
        files.result({name: data})
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def test_a_late_line_is_named_by_its_row(monkeypatch: pytest.MonkeyPatch, files: Importer) -> None:
    monkeypatch.setattr(jsonl_table, "BLOCK", 500)
    monkeypatch.setattr(tables, "read_jsonl", lambda name, file: read_jsonl(name, file, 500))
    with pytest.raises(Invalid, match=r"t\.jsonl, row 101: it is not JSON"):
        files.result({"t.jsonl": "".join(f'{{"a": {i}, "y": {i % 2}}}\n' for i in range(100)) + "oops\n"})
    with pytest.raises(Invalid, match=r"t\.jsonl: a line after row .* has a field 'new'"):
        files.result({"t.jsonl": "".join(f'{{"a": {i}, "y": {i % 2}}}\n' for i in range(100)) + '{"new": 1}\n'})


def test_a_packed_file_that_grows_beyond_reason(monkeypatch: pytest.MonkeyPatch, files: Importer) -> None:
    monkeypatch.setattr(tables, "MAX_SMALL", 1 << 20)
    bomb = "a,y\n" + "0,1\n" * (1 << 20)
    for name, data in (
        ("b.csv.bz2", bz2.compress(bomb.encode())),
        ("b.csv.zst", pa.compress(bomb.encode(), "zstd", asbytes=True)),
    ):
        with pytest.raises(TooLarge, match="unpacks to more than"):
            files.result({name: data})


def test_idx_files_lie_side_by_side(files: Importer) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (50, 6, 5), np.uint8)
    labels = random.integers(0, 10, 50).astype(np.uint8)
    found = files.read(
        {
            "train-images-idx3-ubyte.gz": gzip.compress(idx(pixels[:30])),
            "train-labels-idx1-ubyte.gz": gzip.compress(idx(labels[:30])),
            "t10k-images-idx3-ubyte": idx(pixels[30:]),
            "t10k-labels-idx1-ubyte": idx(labels[30:]),
        }
    )
    np.testing.assert_array_equal(found["image"], pixels[..., None])
    assert found["label"].tolist() == labels.tolist()
    with pytest.raises(Invalid, match=r"b-labels-ubyte holds 3 rows, and b-images-ubyte holds 4"):
        files.result({"b-images-ubyte": idx(pixels[:4]), "b-labels-ubyte": idx(labels[:3])})
    with pytest.raises(Invalid, match=r"t\.csv is no IDX file"):
        files.result({"b-images-ubyte": idx(pixels[:4]), "t.csv": b"a,b\n1,2\n"})


def test_texts_by_class(files: Importer) -> None:
    made = files.made(
        [files.source(f"{kind}/{n}.txt", f"{kind} {n} é".encode(), kind) for kind in ("ham", "spam") for n in range(3)]
    )
    assert [(c.name, c.type.value) for c in made.columns] == [("text", "category"), ("label", "category")]
    assert files.open(made).read()["text"].tolist()[4] == "spam 1 é"
    with pytest.raises(Invalid, match=r"a/1\.txt is not UTF-8 text"):
        files.result([files.source("a/1.txt", b"\xff\xfe\xfd", "a")])


def test_sounds_by_class(files: Importer) -> None:
    tone = np.sin(np.arange(4000) * 2 * math.pi * 440 / 8000)
    sources = [
        files.source("a/1.wav", sound(tone), "a"),
        files.source("b/2.flac", sound(tone[:2000], kind="FLAC"), "b"),
    ]
    made = files.made(sources)
    column = made.columns[0]
    assert (column.name, column.type.value, column.shape, column.dtype, column.stats["rate"]) == (
        "audio",
        "audio",
        (4000,),
        "float32",
        8000,
    )
    rows = files.open(made).read()
    np.testing.assert_allclose(rows["audio"][0], tone, atol=1e-3)
    np.testing.assert_allclose(rows["audio"][1, :2000], tone[:2000], atol=1e-3)
    assert not rows["audio"][1, 2000:].any()
    both = [*sources, files.source("b/3.wav", sound(np.sin(np.arange(8000) * 2 * math.pi * 440 / 16000), 16000), "b")]
    with pytest.raises(
        Invalid, match=r"b/3\.wav has 16,000 samples a second, and a/1\.wav has 8,000: give audio_rate=8000"
    ):
        files.result(both)
    found = files.read(both, audio_rate=8000, audio_seconds=0.25, name="resampled")["audio"]
    assert found.shape == (3, 2000)
    np.testing.assert_allclose(found[2, 100:1900], tone[100:1900], atol=0.02)
    for data, words in ((b"RIFF....WAVE", "is not a sound"), (b"no", "is not a sound"), (sound([]), "holds no sound")):
        with pytest.raises(Invalid, match=f"x/1.wav {words}"):
            files.result([files.source("x/1.wav", data, "x")])
    with pytest.raises(Invalid, match="audio_rate is given, and there are no sounds"):
        files.result({"t.csv": CSV}, audio_rate=8000)


def test_a_table_says_more_of_each_file(files: Importer) -> None:
    pictures = [files.source(f"{n}.png", picture(np.full((4, 4), n, np.uint8))) for n in range(5)]
    table = files.source(
        "labels:labels.csv", b"weight,file,kind\n" + b"".join(f"{n * 2},{n}.png,k{n % 2}\n".encode() for n in range(5))
    )

    def read(table: SourceFile, name: str) -> dict[str, Any]:
        return files.read([*pictures, table], labels=table.name, target="kind", name=name)

    rows = read(table, "whole")
    assert rows["kind"].tolist() == ["k0", "k1", "k0", "k1", "k0"]
    assert rows["weight"].tolist() == [0, 2, 4, 6, 8]
    assert rows["image"][3, 0, 0, 0] == 3
    stems = files.source("labels:l.jsonl", b"".join(f'{{"id": {n}, "kind": "k"}}\n'.encode() for n in range(5)))
    assert read(stems, "stems")["kind"].tolist() == ["k"] * 5
    for data, words in (
        (b"file,kind\n0.png,a\n1.png,b\n", r"l\.csv says nothing of 2\.png"),
        (b"file,kind\n0.png,a\n0.png,b\n", r"l\.csv, row 2: '0\.png' was named in row 1"),
        (b"name,kind\nx,a\ny,b\n", r"l\.csv: none of its columns holds names of the files"),
    ):
        with pytest.raises(Invalid, match=words):
            read(files.source("labels:l.csv", data), "bad")
