"""Steps that make data less personal: what they keep, and what they hide."""

from collections import Counter
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from leptonai.core.errors import Invalid
from leptonai.data import anonymise
from leptonai.data.spec_private import Anonymise

KEY = bytes(range(32))
WORDS = st.lists(st.none() | st.text(max_size=12), min_size=1, max_size=30)


def column(values: list[Any], kind: Any = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind or pa.large_string())])


def step(**given: Any) -> Any:
    return TypeAdapter(Anonymise).validate_python(given)


@settings(deadline=None)
@given(WORDS, st.integers(0, 5), st.integers(0, 5))
def test_a_mask_shows_no_more_than_it_says(values: list[str | None], first: int, last: int) -> None:
    made = anonymise.mask(column(values), first, last).to_pylist()
    for old, new in zip(values, made, strict=True):
        assert (old is None) == (new is None)
        if old is not None and new is not None:
            assert len(old) == len(new)
            assert sum(sign.isalnum() for sign in new) <= first + last
            assert [o for o, n in zip(old, new, strict=True) if o != n and n != "•"] == []


def test_a_card_shows_its_last_four() -> None:
    assert anonymise.mask(column(["4929 1234 5678 9012", "123"]), last=4).to_pylist() == ["•••• •••• •••• 9012", "•••"]


@settings(deadline=None)
@given(WORDS)
def test_equal_values_have_equal_digests(values: list[str | None]) -> None:
    import unicodedata

    made = anonymise.keyed_hash(column(values), KEY).to_pylist()
    plain = [None if v is None else unicodedata.normalize("NFC", v.strip()) for v in values]
    found: dict[Any, set[Any]] = {}
    for old, new in zip(plain, made, strict=True):
        found.setdefault(old, set()).add(new)
    assert found.get(None, {None}) == {None}
    assert all(len(news) == 1 for news in found.values())
    assert len({next(iter(news)) for news in found.values()}) == len(found)


def test_a_digest_needs_its_key() -> None:
    (one,) = anonymise.keyed_hash(column(["Ada"]), KEY).to_pylist()
    (other,) = anonymise.keyed_hash(column(["Ada"]), bytes(32)).to_pylist()
    assert one != other
    assert len(one) == 16
    assert len(anonymise.keyed_hash(column(["Ada"]), KEY, 64).to_pylist()[0]) == 64


def test_generalised() -> None:
    table = pa.table(
        {
            "age": pa.array([37, 40, None, -1]),
            "zip": pa.array(["10115", "1011", None, "SW1A 1AA"], pa.large_string()),
            "born": pa.array(
                [datetime(1990, 5, 17, 3), None, datetime(2000, 1, 1), datetime(1969, 12, 31)], pa.timestamp("us")
            ),
        }
    )
    made = anonymise.apply(table, step(step="generalise", columns=["age"], width=10), KEY)
    made = anonymise.apply(made, step(step="generalise", columns=["zip"], prefix=3), KEY)
    made = anonymise.apply(made, step(step="generalise", columns=["born"], date="month"), KEY)
    assert made["age"].to_pylist() == ["[30, 40)", "[40, 50)", None, "[-10, 0)"]
    assert made["zip"].to_pylist() == ["101*", "101*", None, "SW1*"]
    assert made["born"].to_pylist() == [datetime(1990, 5, 1), None, datetime(2000, 1, 1), datetime(1969, 12, 1)]
    assert made.column_names == table.column_names
    assert anonymise.drop(made, ["zip"]).column_names == ["age", "born"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None])), min_size=1, max_size=60),
    st.integers(2, 6),
)
def test_small_groups_are_counted_and_left_out(rows: list[tuple[Any, Any]], k: int) -> None:
    table = pa.table(
        {"x": pa.array([r[0] for r in rows], pa.large_string()), "y": pa.array([r[1] for r in rows], pa.int64())}
    )
    counts = Counter(rows)
    found = anonymise.k_anonymity(table, ["x", "y"], k)
    small = {group: count for group, count in counts.items() if count < k}
    assert (found.groups, found.smallest) == (len(counts), min(counts.values()))
    assert (found.below, found.rows_below) == (len(small), sum(small.values()))
    for example in found.examples:
        assert small[(example["x"], example["y"])] == example["rows"]
    kept = table.filter(anonymise.in_large_groups(table, ["x", "y"], k))
    assert Counter(zip(kept["x"].to_pylist(), kept["y"].to_pylist(), strict=True)) == Counter(
        {group: count for group, count in counts.items() if count >= k}
    )


@pytest.mark.parametrize(
    "given",
    [
        {"step": "generalise", "columns": ["a"]},
        {"step": "generalise", "columns": ["a"], "width": 1, "prefix": 2},
        {"step": "x", "columns": ["a"]},
        {"step": "hash", "columns": []},
    ],
)
def test_steps_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        step(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"step": "mask", "columns": ["gone"]}, "no column 'gone'"),
        ({"step": "generalise", "columns": ["word"], "width": 5}, "holds no numbers"),
        ({"step": "generalise", "columns": ["word"], "date": "month"}, "holds no dates"),
    ],
)
def test_what_does_not_fit(given: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        anonymise.apply(pa.table({"word": pa.array(["a"], pa.large_string())}), step(**given), KEY)
