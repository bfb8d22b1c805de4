"""Rules: what breaks each, in which file and row, at import, on a version, and before a training."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cleaning import Desk
from tests.support.imports import Importer

from leptonai.core.errors import Denied, Invalid
from leptonai.data.check_verbs import prepare_check
from leptonai.data.check_words import rule
from leptonai.data.check_work import check, hold_rows
from leptonai.data.checking import Checker
from leptonai.data.spec_check import Check, CheckReport, OneOf, Range, Unique

LINES = [
    f"{i},{20 + i % 50},{('basic', 'pro')[i % 2]},a{i}@x.org,2026-11-{i % 20 + 1:02},c{i % 9},{i % 2}"
    for i in range(200)
]
HEAD = "id,age,plan,mail,day,customer,label\n"


def checked(files: Importer, data: str, *rules: Any, lacks: tuple[str, ...] = ()) -> CheckReport:
    desk: Any = Desk(files)
    desk.lacks = set(lacks)
    for known in files.desk.datasets:
        files.handle.datasets[f"datasets:/{known.name}@v{known.version}"] = files.open(known)  # type: ignore[assignment]
    given_ = tuple(rule(one) if isinstance(one, str) else one for one in rules)
    plan = prepare_check(Check.model_validate({"data": data, "rules": given_}), desk)
    result = check(Check.model_validate(plan.spec), files.handle)
    return CheckReport.model_validate_json(files.handle.read(result["report"]))


@pytest.fixture
def broken(files: Importer) -> Importer:
    """A table in which every rule is broken once, in two files."""
    lines = list(LINES)
    lines[30] = "30,200,basic,a30@x.org,2026-11-01,c1,0"
    lines[70] = "69,,none,not a mail,2026-11-01,c77,1"
    files.made(
        {"customers.csv": "code,z\n" + "".join(f"c{i},{i / 2}\n" for i in range(9))}, name="customers", target=""
    )
    files.made(
        {"one.csv": HEAD + "\n".join(lines[:50]), "two.csv": HEAD + "\n".join(lines[50:])},
        name="people", shard_rows=32, types={"mail": "text"},
    )  # fmt: skip
    return files


RULES = (
    "range:age=0..120", "unique:id", "not_missing:age", "one_of:plan=basic,pro", r"regex:mail=[^@ ]+@[^@ ]+",
    "foreign_key:customer=customers.code", "row_count=300..", {"rule": "range", "column": "day", "max": "2026-11-19T00:00:00Z"},
)  # fmt: skip


def test_each_rule_names_the_rows_that_break_it(broken: Importer) -> None:
    report = checked(broken, "people", *RULES)
    assert not report.passed
    places = [[row["place"] for row in one.rows[:1]] for one in report.rules]
    assert places == [["row 31"], ["row 71"], ["row 71"], ["row 71"], ["row 71"], ["row 71"], [], ["row 20"]]
    assert [one.bad for one in report.rules] == [1, 1, 1, 1, 1, 1, 0, 10]
    assert report.rules[0].text == "age at least 0 and at most 120: 1 row breaks it, the first is row 31 (age is 200)"
    assert report.rules[6].text == "rows at least 300: there are 200 rows"
    good = checked(
        broken,
        "people",
        "range:label=0..1",
        {"rule": "not_missing", "columns": ["age"], "at_most": 0.01},
        "row_count=..200",
    )
    assert good.passed


def test_an_import_that_breaks_a_rule_makes_nothing_and_names_file_and_row(files: Importer) -> None:
    lines = list(LINES)
    lines[70] = "70,-5,basic,m,2026-11-01,c1,0"
    two = {"one.csv": HEAD + "\n".join(lines[:50]), "two.csv": HEAD + "\n".join(lines[50:])}
    rules = (rule("range:age=0..120"), rule("unique:id"))
    with pytest.raises(
        Invalid, match=r"made does not keep its rules: age at least 0.* the first is two\.csv, row 21 \(age is -5\)"
    ) as error:
        files.made(two, checks=rules)
    assert error.value.errors[0].field == "two.csv, row 21"
    assert files.desk.datasets == []
    made = files.made({"one.csv": HEAD + "\n".join(LINES)}, checks=rules)
    assert [one["rule"] for one in made.source["checks"]] == ["range", "unique"]
    with pytest.raises(Invalid, match=r"made does not keep its rules"):  # what a personal column holds is not told
        files.made(two, checks=rules, pii=("age",))
    try:
        files.made(two, checks=rules, pii=("age",))
    except Invalid as told:
        assert "-5" not in f"{told} {told.errors}"


def test_the_age_of_the_newest_row() -> None:
    days = pa.table({"day": pa.array([datetime(2026, 1, 1), datetime(2026, 1, 5), None], pa.timestamp("us"))})
    for within, passed in (("3d", True), ("36h", False), ("1w", True), ("60min", False)):
        checker = Checker(
            [Check.model_validate({"data": "d", "rules": [rule(f"fresh:day={within}")]}).rules[0]],
            now=datetime(2026, 1, 7, tzinfo=UTC),
        )
        checker.add(days, str)
        assert checker.finish()[0].passed is passed, within


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.lists(st.integers(0, 12) | st.none(), max_size=12), min_size=1, max_size=6),
    low=st.integers(0, 12), allowed=st.sets(st.integers(0, 12), min_size=1),
)  # fmt: skip
def test_pieces_break_what_the_whole_breaks(pieces: list[list[int | None]], low: int, allowed: set[int]) -> None:
    checker = Checker([Range(column="x", min=low), Unique(columns=("x",)), OneOf(column="x", values=tuple(allowed))])
    at = 0
    for piece in pieces:
        checker.add(pa.table({"x": pa.chunked_array([pa.array(piece, pa.int64())])}), lambda row, at=at: str(at + row))
        at += len(piece)
    whole = [value for piece in pieces for value in piece]
    below, twice, other = checker.finish()
    assert [int(row["place"]) for row in below.rows] == [n for n, v in enumerate(whole) if v is not None and v < low][
        :5
    ]
    assert twice.bad == len(whole) - len(set(whole))
    assert other.bad == sum(v is not None and v not in allowed for v in whole)


def test_what_cannot_be_checked_is_said(broken: Importer) -> None:
    for one, words in (
        ("range:agee=0..1", "people@v1 has no column 'agee'"),
        ("foreign_key:customer=customers.key", "customers@v1 has no column 'key'"),
        ("range:plan=0..1", "cannot be held against column 'plan'"),
        ("regex:mail=(", "cannot be held against column 'mail'"),
        ("range:age=9", "is not complete: write range:COLUMN=LOW..HIGH"),
        ("mend:age", "there is no rule 'mend'"),
    ):
        with pytest.raises(Invalid, match=words.replace("(", r"\(")):
            checked(broken, "people", one)
    with pytest.raises(Invalid, match="people@v1 does not keep its rules: age at least 0"):
        hold_rows([rule("range:age=0..120")], "datasets:/people@v1", broken.handle)


def test_a_personal_column_is_checked_by_who_may_and_never_shown(files: Importer) -> None:
    files.made({"t.csv": "name,y\n" + "Ann 7,1\n" * 3 + "ann,0\n"}, name="p", pii=("name",))
    report = checked(files, "p", "regex:name=[A-Z].*", "unique:name")
    assert [one.bad for one in report.rules] == [1, 2]
    assert "nn" not in report.model_dump_json().replace("cannot", "")
    with pytest.raises(Denied, match="'name' of dataset p@v1 is personal"):
        checked(files, "p", "unique:name", lacks=("dataset:pii",))
    assert checked(files, "p", "row_count=4..", lacks=("dataset:pii",)).passed
