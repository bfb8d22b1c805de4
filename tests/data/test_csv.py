"""CSV files: what is read, and what is said of those that cannot be."""

import csv
import gzip
import io
import itertools
import re
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.imports import Importer

from leptonai.core.errors import Invalid, TooLarge
from leptonai.core.signature import FeatureType
from leptonai.data import csv_table, tables
from leptonai.data.csv_table import NULLS, read_csv

GOOD = "age,income,city,label\n" + "".join(
    f"{20 + i},{i * 1.5},{['Paris', 'Lyon'][i % 2]},{i % 2}\n" for i in range(50)
)


def test_numbers_words_and_classes_are_told_apart(files: Importer) -> None:
    made = files.made({"people.csv": GOOD})
    assert {c.name: (c.type.value, c.dtype) for c in made.columns} == {
        "age": ("integer", "int64"),
        "income": ("number", "float64"),
        "city": ("category", "str"),
        "label": ("category", "int64"),
    }
    assert made.target == "label"
    assert made.rows == 50
    rows = files.open(made).read()
    assert rows["age"].tolist() == list(range(20, 70))
    assert rows["city"].tolist() == ["Paris", "Lyon"] * 25
    assert rows["label"].dtype == np.int64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,x\n2,y\n", {"a": [1, 2], "b": ["x", "y"]}),
        ("a,b\r\n1,x\r\n2,y", {"a": [1, 2], "b": ["x", "y"]}),
        ("a,b\r1,x\r2,y\r", {"a": [1, 2], "b": ["x", "y"]}),
        ("\ufeffa,b\n1,x\n", {"a": [1], "b": ["x"]}),
        ("\n\na,b\n1,x\n\n\n2,y\n\n\n", {"a": [1, 2], "b": ["x", "y"]}),
        ('a,b\n1,"x, ""y""\nz"\n', {"a": [1], "b": ['x, "y"\nz']}),
        ('a,b\n1,5" pipe\n2,y\n', {"a": [1, 2], "b": ['5" pipe', "y"]}),
        ('"a","b"\n"1","x"\n"","NA"\n', {"a": [1.0, np.nan], "b": ["x", None]}),
        ("a;b\n1;x, y\n", {"a": [1], "b": ["x, y"]}),
        (" a , b\n 1 , x\n2 ,y\n", {"a": [1, 2], "b": [" x", "y"]}),
        ("a,b\n1,\n,NA\n3,z\n", {"a": [1.0, np.nan, 3.0], "b": [None, None, "z"]}),
        ("a\n1\n\n3\n", {"a": [1, 3]}),
        ("a,b\n1,é\n2,中\n", {"a": [1, 2], "b": ["é", "中"]}),
        ("postcode,b\n01234,1\n99999,2\n", {"postcode": ["01234", "99999"], "b": [1, 2]}),
        ("id,b\n99999999999999999999,1\n1,2\n", {"id": ["99999999999999999999", "1"], "b": [1, 2]}),
        ("a,b\n1,2\n2.5,3\n", {"a": [1.0, 2.5], "b": [2, 3]}),
        ("a,b\n1e3,inf\n-.5,1\n", {"a": [1000.0, -0.5], "b": [np.inf, 1.0]}),
        ("a,b\n1,\n2,\n", {"a": [1, 2], "b": [np.nan, np.nan]}),
    ],
)
def test_what_a_file_may_look_like(text: str, expected: dict[str, list[Any]], files: Importer) -> None:
    rows = files.read({"t.csv": text}, target="")
    assert list(rows) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(rows[name], np.array(values, rows[name].dtype), strict=True)


def test_other_encodings_endings_and_compression(files: Importer) -> None:
    plain = files.made({"t.csv": GOOD}, name="plain").digest
    assert files.made({"t.csv": GOOD.encode("utf-16")}, name="wide").digest == plain
    assert files.made({"t.CSV.gz": gzip.compress(GOOD.encode())}, name="packed").digest == plain
    assert files.made({"t.tsv": GOOD.replace(",", "\t")}, name="tabs").digest == plain
    assert files.made({"t.csv": GOOD.replace("\n", "\r\n")}, name="crlf").digest == plain


def test_dates_and_truth_values(files: Importer) -> None:
    text = "day,when,ok,word,y\n2026-01-31,2026-01-31T10:00:00+02:00,True,yes,1.5\n2026-02-01,2026-02-01 00:00:00.25Z,false,no,2\n,,,,3\n"
    made = files.made({"t.csv": text})
    kinds = {c.name: c.type.value for c in made.columns}
    assert kinds == {"day": "datetime", "when": "datetime", "ok": "boolean", "word": "category", "y": "number"}
    rows = files.open(made).read()
    day = 86_400_000_000
    first = np.datetime64("2026-01-31", "us").astype(np.int64)
    assert rows["day"].tolist() == [first, first + day, np.iinfo(np.int64).min]
    assert rows["when"].tolist()[:2] == [first + day // 3, first + day + 250_000]
    assert rows["ok"].tolist() == [True, False, None]
    assert rows["word"].tolist() == ["yes", "no", None]


def test_what_the_user_says_of_a_column_holds(files: Importer) -> None:
    text = "a,b,c,d,e,y\n1,007,yes,1.0,x,0\n2,8,no,2.0,y,1\n,9,,3.5,z,0\n"
    types = {"a": "number", "b": "integer", "c": "boolean", "d": "category", "e": "text", "y": "integer"}
    made = files.made({"t.csv": text}, types=types)
    assert {c.name: c.type.value for c in made.columns} == types
    rows = files.open(made).read()
    assert rows["b"].tolist() == [7, 8, 9]
    assert rows["c"].tolist() == [True, False, None]
    assert rows["d"].tolist() == ["1.0", "2.0", "3.5"]
    assert rows["y"].tolist() == [0, 1, 0]
    labels = files.made({"t.csv": text}, types={"a": "category", "b": "category"}, name="other")
    assert [(c.dtype, c.categories) for c in labels.columns[:2]] == [("int64", (1, 2)), ("str", ("007", "8", "9"))]
    assert files.open(labels).read()["a"].tolist() == [1, 2, None]


@pytest.mark.parametrize(
    ("name", "text", "options", "words"),
    [
        ("e.csv", "", {}, ["e.csv", "empty"]),
        ("e.csv", "\n \n", {}, ["e.csv"]),
        ("e.csv.gz", gzip.compress(b""), {}, ["e.csv.gz", "empty"]),
        ("e.csv.gz", gzip.compress(GOOD.encode())[:-20], {}, ["e.csv.gz", "not a compressed file"]),
        ("e.csv.gz", b"not gzip", {}, ["e.csv.gz", "not a compressed file"]),
        ("h.csv", "a,b\n", {}, ["h.csv", "header", "no rows"]),
        ("h.csv", "a,b\n\n\n", {}, ["h.csv", "no rows"]),
        ("n.csv", "a,,c\n1,2,3\n", {}, ["n.csv", "column 2", "no name", "index=False"]),
        ("d.csv", "a,b,a\n1,2,3\n", {}, ["d.csv", "two columns", "'a'"]),
        ("r.csv", GOOD + "1,2,3\n", {}, ["r.csv, row 51:", "3 values", "header has 4"]),
        ("r.csv", GOOD + "1,2,3,4,5\n" + GOOD[24:], {}, ["r.csv, row 51:", "5 values", "header has 4"]),
        ("r.csv", 'a,b\n1,"x\ny"\n2\n', {}, ["r.csv, row 2 (line 4)", "1 values", "header has 2"]),
        ("q.csv", 'a,b\n1,x\n2,"never closed\n3,z\n', {}, ["q.csv", "quote", "row 1", "never closed"]),
        ("l.csv", "a,b\n1,x\n2,caf\xe9\n".encode("latin-1"), {}, ["l.csv, row 2 (line 3)", "UTF-8"]),
        ("l.csv", "caf\xe9,b\n1,x\n".encode("latin-1"), {}, ["l.csv", "header", "UTF-8"]),
        ("b.csv", b"\x00\x01\x02,\n", {}, ["b.csv", "not a text file"]),
        ("t.csv", GOOD, {"target": "wage"}, ["'wage'", "age, income, city, label"]),
        ("t.csv", GOOD, {"types": {"wage": "number"}}, ["'wage'", "age, income, city, label"]),
        ("t.csv", GOOD, {"types": {"city": "number"}}, ["t.csv, row 1:", "'city'", "'Paris'", "a number"]),
        ("t.csv", GOOD, {"types": {"city": "boolean"}}, ["t.csv, row 1:", "'city'", "'Paris'", "true or false"]),
        ("t.csv", GOOD, {"types": {"city": "datetime"}}, ["t.csv, row 1:", "'city'", "'Paris'", "ISO date"]),
        ("t.csv", GOOD, {"types": {"income": "integer"}}, ["t.csv, row 2:", "'income'", "'1.5'", "whole number", "'number'"]),
        ("t.csv", GOOD, {"types": {"city": "image"}}, ["'city'", "single values", "types={'city': 'image'}"]),
        ("t.csv", GOOD + "1,2,Paris,\n3,4,Paris,\n", {}, ["'label'", "empty in 2 rows", "t.csv, row 51"]),
        ("t.csv", GOOD + "1,2,Paris,NaN\n", {}, ["'label'", "empty in 1 row", "t.csv, row 51"]),
        ("t.csv", GOOD, {"image_size": (8, 8)}, ["image_size", "no images"]),
        ("t.xlsx", GOOD, {}, ["t.xlsx", ".csv", ".parquet"]),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_bad_files_are_named_in_one_sentence(
    name: str, text: str | bytes, options: dict[str, Any], words: list[str], files: Importer
) -> None:
    with pytest.raises(Invalid) as caught:
        files.result({name: text}, **options)
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.to_dict()["code"] == "invalid"


def test_a_type_that_changes_late_is_found_exactly(files: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "SCHEMA_ROWS", 100)
    rows = [f"{i},{i % 97},{i % 2}" for i in range(1000)]
    late = "id,age,label\n" + "\n".join(rows) + "\n1000,forty,1\n" + "\n".join(rows[:10])
    with pytest.raises(Invalid) as caught:
        files.result({"late.csv": late})
    said = caught.value.message
    assert re.search(r"late\.csv, row 1,001: column 'age' holds 'forty', which is not a whole number", said)
    assert "types={'age': 'category'}" in said
    assert files.made({"late.csv": late}, types={"age": "category"}).columns[1].type == "category"

    with pytest.raises(Invalid, match=r"row 1,001: column 'age' holds '40.5'.*types=\{'age': 'number'\}"):
        files.result({"late.csv": late.replace("forty", "40.5")})
    assert (
        files.read({"late.csv": late.replace("forty", "40.5")}, types={"age": "number"}, name="b")["age"][1000] == 40.5
    )


def test_a_column_that_begins_empty_is_what_it_turns_out_to_be(
    files: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "SCHEMA_ROWS", 10)
    text = "a,b,c,y\n" + "1,,,1.5\n" * 30 + "2,7,x,2.5\n"
    made = files.made({"t.csv": text})
    assert [c.type.value for c in made.columns] == ["integer", "integer", "category", "number"]
    assert files.open(made).read()["b"][-1] == 7.0


def test_a_word_for_missing_that_comes_late_is_no_change_of_type(
    files: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "SCHEMA_ROWS", 10)
    for word in NULLS:
        rows = files.read({"t.csv": "a,b,y\n" + "1,x,1\n" * 20 + f"{word},{word},0\n"}, name=f"n{NULLS.index(word)}")
        assert np.isnan(rows["a"][-1])
        assert rows["b"][-1] is None


def test_a_value_longer_than_a_block(files: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_ARROW_BLOCK", 1 << 16)
    long = "x" * (1 << 18)
    for quote in ("", '"'):
        rows = files.read({"t.csv": f"a,b,y\n1,{quote}{long}{quote},1.5\n2,short,2\n"}, name=f"long{len(quote)}")
        assert rows["b"].tolist() == [long, "short"]


def test_several_files_are_one_table_in_their_order(files: Importer) -> None:
    rows = files.read({"b.csv": "x,y\n1,a\n", "a.csv": "y,x\nb,2.5\n", "c.csv": "x,y\n,c\n"})
    np.testing.assert_array_equal(rows["x"], [1.0, 2.5, np.nan])
    assert rows["y"].tolist() == ["a", "b", "c"]
    for second, words in (
        ("x\n1\n", ["b.csv", "lacks the column 'y'", "a.csv"]),
        ("x,y,z\n1,b,2\n", ["b.csv", "has a column 'z'", "a.csv"]),
        ("x,y\none,b\n", ["b.csv", "'x'", "text", "a.csv", "whole numbers", "types={'x': 'category'}"]),
    ):
        with pytest.raises(Invalid) as caught:
            files.result({"a.csv": "x,y\n1,a\n", "b.csv": second})
        assert [word for word in words if word not in caught.value.message] == [], caught.value.message
    mixed = files.read({"a.csv": "x,y\n1,a\n", "b.csv": "x,y\none,b\n"}, types={"x": "category"}, name="mixed")
    assert mixed["x"].tolist() == ["1", "one"]
    with pytest.raises(Invalid, match=r"empty in 1 row, first in b\.csv, row 2"):
        files.result({"a.csv": "x,y\n1,a\n", "b.csv": "x,y\n1,b\n2,\n"})


def test_a_small_file_cannot_unpack_to_a_huge_one(files: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_SMALL", 1 << 20)
    with pytest.raises(TooLarge, match="bomb"):
        files.result({"bomb.csv.gz": gzip.compress(b"a,b\n" + b"0,0\n" * (1 << 20))})


@pytest.mark.slow
def test_a_million_rows(files: Importer) -> None:
    rows = [f"{i},{i * 0.25},{i % 97},{i % 2}" for i in range(900_000)]
    late = "id,share,age,label\n" + "\n".join(rows) + "\n900000,0.5,forty,1\n" + "\n".join(rows[:99_999]) + "\n"
    start = time.monotonic()
    with pytest.raises(Invalid, match=r"late\.csv, row 900,001: column 'age' holds 'forty'"):
        files.result({"late.csv": late})
    with pytest.raises(Invalid, match=r"late\.csv, row 900,001: it has 3 values, and the header has 4"):
        files.result({"late.csv": late.replace(",forty,", ",")})
    found = files.read({"late.csv": late.replace("forty", "40")})
    assert len(found["id"]) == 1_000_000
    assert found["age"][900_000] == 40
    assert time.monotonic() - start < 120


cells = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=False).map(repr),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8),
    st.sampled_from(["", "NA", "007", "1e5", "-0", "+5", " 1", "true", "2026-01-31", '"', "inf"]),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), width=st.integers(2, 4))
def test_what_a_csv_writer_writes_is_read_as_it_was(data: Any, quoting: int, width: int) -> None:
    kinds = [data.draw(st.sampled_from(["ints", "floats", "any"])) for _ in range(width)]
    column = {
        "ints": st.integers(-(2**62), 2**62).map(str),
        "floats": st.floats(allow_nan=False).map(repr),
        "any": cells,
    }
    height = data.draw(st.integers(1, 6))
    table = [[data.draw(column[kind]) for kind in kinds] for _ in range(height)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting)
    writer.writerow([f"c{i}" for i in range(width)])
    writer.writerows(table)
    found = pa.concat_tables(read_csv("t.csv", io.BytesIO(out.getvalue().encode()), {}))
    assert found.num_rows == height
    for at in range(width):
        for wrote, read in zip((row[at] for row in table), found[at].to_pylist(), strict=True):
            if read is None:
                assert wrote in NULLS
            elif isinstance(read, str):
                assert read == wrote
            else:
                assert float(wrote) == float(read)


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(st.tuples(cells, cells), min_size=1, max_size=60),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    size=st.integers(100, 500),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
)
def test_a_file_is_the_same_in_blocks(table: list[tuple[str, str]], quoting: int, size: int, encoding: str) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting)
    writer.writerow(["a", "b"])
    writer.writerows(table)
    data = out.getvalue().encode(encoding)
    types = {"a": FeatureType.TEXT, "b": FeatureType.TEXT}
    whole = pa.concat_tables(read_csv("t.csv", io.BytesIO(data), types)).to_pylist()
    parts = list(read_csv("t.csv", io.BytesIO(data), types, block=size))
    assert pa.concat_tables(parts, promote_options="permissive").to_pylist() == whole


def test_a_lone_quote_in_a_value_does_not_hold_up_a_long_file() -> None:
    lines = ["n,what", *(f"{i}," + ('a 5" pipe' if i == 3 else "b") for i in range(5000))]
    tables = list(read_csv("t.csv", io.BytesIO("\n".join(lines).encode()), {}, block=4096))
    assert len(tables) > 5
    assert pa.concat_tables(tables)["n"].to_pylist() == list(range(5000))


@pytest.mark.parametrize(
    ("late", "words"),
    [
        ("x,1", ["row 3,001", "'a'", "'x'", "whole number"]),
        ("1,2,3", ["row 3,001", "3 values"]),
        ("1,caf\udce9", ["row 3,001 (line 3,002)", "UTF-8"]),
        ('1,"open', ["row 3,0", "never closed"]),
    ],
)
def test_a_fault_in_a_later_block_is_named_by_its_row_in_the_file(late: str, words: list[str]) -> None:
    lines = ["a,b", *(f"{i},{i}" for i in range(3000)), late, *(f"{i},{i}" for i in range(10))]
    data = "\n".join(lines).encode("utf-8", "surrogateescape")
    with pytest.raises(Invalid) as caught:
        list(read_csv("t.csv", io.BytesIO(data), {}, block=1024))
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


@pytest.mark.parametrize("quote", ["", '"'])
def test_no_row_is_lost_between_blocks(quote: str) -> None:
    lines = ["n,what,x", *(f"{i},{quote}w{i % 7}{quote},{i / 4}" for i in range(5000))]
    tables = list(read_csv("t.csv", io.BytesIO("\n".join(lines).encode()), {}, block=4096))
    assert len(tables) > 5
    whole = pa.concat_tables(tables)
    assert whole["n"].to_pylist() == list(range(5000))
    assert whole["x"].to_pylist() == [i / 4 for i in range(5000)]
