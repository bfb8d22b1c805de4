"""k-anonymity: groups are counted as they are, and cleaning leaves no group that is too small."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cleaning import cleaned
from tests.support.imports import Importer

from leptonai.core.errors import Invalid
from leptonai.data.check_words import rule
from leptonai.data.checking import Checker
from leptonai.data.groups import Groups
from leptonai.data.spec_check import KAnonymity

RANDOM = np.random.default_rng(3)
PEOPLE = "age,zip,seen,city,label\n" + "".join(
    f"{RANDOM.integers(18, 90)},{RANDOM.integers(10000, 10400)},2026-0{RANDOM.integers(1, 7)}-1{RANDOM.integers(0, 9)},"
    f"{'abc'[RANDOM.integers(0, 3)] * 3},{n % 2}\n"
    for n in range(400)
)
QUASI = ("age", "zip", "seen", "city")


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["x", "y", None])), min_size=1, max_size=60),
    k=st.integers(2, 6),
    cut=st.integers(0, 60),
)
def test_groups_are_counted_as_they_are(rows: list[tuple[int, str | None]], k: int, cut: int) -> None:
    groups = Groups(["a", "b"])
    for part in (rows[:cut], rows[cut:]):
        if part:
            columns = {"a": [row[0] for row in part], "b": pa.array([row[1] for row in part], pa.large_string())}
            groups.add(pa.table(columns))
    found, wanted = groups.below(k, 3), Counter(rows)
    small = {row: count for row, count in wanted.items() if count < k}
    assert (found.groups, found.rows, found.smallest) == (len(small), sum(small.values()), min(wanted.values()))
    assert [count for _, count in found.examples] == sorted(small.values())[:3]
    assert all(wanted[values["a"], values["b"]] == count for values, count in found.examples)


def test_the_rule_names_the_smallest_groups() -> None:
    table = pa.table({"age": [30] * 5 + [71], "zip": ["010"] * 5 + ["099"]})
    asked = KAnonymity.model_validate(rule("k_anonymity:age,zip=3"))
    assert (asked.columns, asked.k) == (("age", "zip"), 3)
    checker = Checker([asked])
    checker.add(table, str)
    (found,) = checker.finish()
    assert not found.passed
    assert found.text == (
        "age and zip shared by at least 3 rows: 1 rows lie in 1 smaller groups, the first is a group of 1 row (age is 71, zip is '099')"
    )
    hidden = Checker([asked], personal=["zip"])
    hidden.add(table, str)
    assert "099" not in hidden.finish()[0].model_dump_json(), "what is personal is not told"
    kept = Checker([asked.model_copy(update={"columns": ("age",), "k": 2})])
    kept.add(table.slice(0, 5), str)
    assert kept.finish()[0].text == "age shared by at least 2 rows: the smallest group has 5 rows"


@pytest.mark.parametrize("k", [2, 5, 25])
def test_cleaning_leaves_no_small_group(k: int, files: Importer) -> None:
    made = files.made({"people.csv": PEOPLE}, types={"zip": "text"}, target="label")
    step = {"step": "k_anonymity", "columns": list(QUASI), "k": k}
    none, dry = cleaned(files, made, step, dry_run=True)
    new, report = cleaned(files, made, step)
    assert none is None
    assert new is not None
    assert dry.steps == report.steps, "a dry run tells the same"
    rows = files.open(new).read()
    groups = Counter(zip(*(rows[name].tolist() for name in QUASI), strict=True))
    assert min(groups.values()) >= k
    assert new.rows >= 0.95 * made.rows
    (told,) = report.steps
    assert told.learnt["rows"] == {"smallest": min(groups.values()), "left_out": made.rows - new.rows}
    assert set(told.learnt) == {*QUASI, "rows"}
    assert rows["label"].tolist() == [int(v) for v in rows["label"]], "the target is as it was"
    if k == 2:
        assert len(groups) > 3, "no more is left unsaid than has to be"


def test_what_cannot_be_is_refused(files: Importer) -> None:
    made = files.made({"people.csv": PEOPLE}, target="label")
    with pytest.raises(
        Invalid, match=r"k_anonymity: 400 of 400 rows still lie in groups of fewer than 401 .* smaller k"
    ):
        cleaned(files, made, "k_anonymity:age,city=401")
    with pytest.raises(Invalid, match="'label' is the target"):
        cleaned(files, made, "k_anonymity:label=5")
    with pytest.raises(Invalid, match="not complete: write k_anonymity"):
        cleaned(files, made, "k_anonymity")
