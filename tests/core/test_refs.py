from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.errors import Invalid
from leptonai.core.nouns import NAME_PATTERN
from leptonai.core.refs import DatasetRef, ModelRef, Split, check_name, part_sizes, share_rows

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: len(name) <= 100)
SPLITS = st.builds(
    Split,
    part=st.sampled_from(["train", "test"]),
    train_size=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31),
    stratify=st.booleans(),
)


@given(
    st.builds(
        DatasetRef,
        name=NAMES,
        version=st.none() | st.integers(1, 10**6),
        splits=st.lists(SPLITS, max_size=3).map(tuple),
    )
)
def test_a_dataset_reference_is_read_as_it_is_written(ref: DatasetRef) -> None:
    assert DatasetRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("a@v1", "a@v1", True),
        ("a@v1", "a@v2", False),
        ("a@v1", "b@v1", False),
        ("a@v1", "a@v1?part=test&train_size=0.8", True),
        ("a@v1?part=train&train_size=0.8", "a@v1?part=test&train_size=0.8", False),
        ("a@v1?part=train&train_size=0.8", "a@v1?part=test&train_size=0.8&seed=1", True),
        ("a@v1?part=train&train_size=0.8&part=test&train_size=0.5", "a@v1?part=train&train_size=0.8", True),
        ("a@v1?part=train&train_size=0.8&part=test&train_size=0.5", "a@v1?part=test&train_size=0.8", False),
    ],
)
def test_parts_of_one_split_share_no_rows(one: str, other: str, share: bool) -> None:
    assert share_rows(DatasetRef.parse(one), DatasetRef.parse(other)) is share
    assert share_rows(DatasetRef.parse(other), DatasetRef.parse(one)) is share


@given(NAMES, st.dates(), st.lists(SPLITS, max_size=2).map(tuple))
def test_a_reference_by_day_is_read_as_it_is_written(name: str, day: date, splits: tuple[Split, ...]) -> None:
    ref = DatasetRef(name=name, on=day, splits=splits)
    assert DatasetRef.parse(str(ref)) == ref
    assert str(ref.model_copy(update={"version": 3})).startswith(f"datasets:/{name}@v3")


@given(NAMES, st.none() | st.integers(1, 10**6), st.none() | NAMES)
def test_a_model_reference_is_read_as_it_is_written(name: str, version: int | None, alias: str | None) -> None:
    ref = ModelRef(name=name, version=version, alias=None if version else alias)
    assert ModelRef.parse(str(ref)) == ref


BAD = [
    "..", "../x", "..\\x", "%2e%2e%2f", "/etc/x", "//x", "C:\\x", "a/../../x", "a\0b", ".", "", "x" * 101, "x.", "x ", "CON",
    "~root", "$HOME", "{{7*7}}", "$(id)", "`id`", "a;id", "a\nb", "<script>", "=1+1", "@x", "\u200fx", "e\u0301", "é", "．．", "-rf",
    "--help", "' OR 1=1", "🙂", "\ud800", "A", "a..b",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="not a valid name"):
        check_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "a@2",
        "a@v0",
        "a@2026-13-01",
        "a@2026-1-1",
        "a@",
        "a?part=all&train_size=0.5",
        "a?train_size=0.5",
        "a?part=train",
        "a?part=train&train_size=0.5&x=1",
    ],
)
def test_what_is_no_dataset_reference_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        DatasetRef.parse(text)


@pytest.mark.parametrize("text", ["a/0", "a/x", "a/1/2", "a@", "a@A"])
def test_what_is_no_model_reference_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        ModelRef.parse(text)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_parts_are_exact_and_fair(counts: list[int], train_size: float) -> None:
    sizes = part_sizes(counts, train_size)
    total = sum(counts)
    if total > 1:
        assert sum(sizes) == min(max(round(total * train_size), 1), total - 1)
    share = sum(sizes) / total if total else 0
    assert all(0 <= size <= count and abs(size - count * share) < 1 for size, count in zip(sizes, counts, strict=True))
