"""Splits: seeded, stratified, exact, for ever the same."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.core.refs import Split, part_sizes
from leptonai.data.split import rows_of

sizes = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**31 - 1)


def both(train_size: float, seed: int = 0, stratify: bool = True) -> tuple[Split, Split]:
    return (
        Split(part="train", train_size=train_size, seed=seed, stratify=stratify),
        Split(part="test", train_size=train_size, seed=seed, stratify=stratify),
    )


@st.composite
def targets(draw: Any) -> np.ndarray:
    kind = draw(st.sampled_from(["words", "numbers", "flags"]))
    if kind == "words":
        found = draw(st.lists(st.sampled_from(["a", "b", "ccc", "é", "Z"]), min_size=2, max_size=300))
        return np.array(found, object)
    if kind == "numbers":
        return np.array(draw(st.lists(st.integers(-3, 9), min_size=2, max_size=300)), np.int64)
    return np.array(draw(st.lists(st.booleans(), min_size=2, max_size=300)), bool)


@settings(max_examples=300, deadline=None)
@given(target=targets(), train_size=sizes, seed=seeds, stratify=st.booleans())
def test_parts_are_disjoint_whole_exact_and_fair(
    target: np.ndarray, train_size: float, seed: int, stratify: bool
) -> None:
    train, test = both(train_size, seed, stratify)
    rows = len(target)
    one, other = rows_of([train], rows, target), rows_of([test], rows, target)
    assert sorted([*one.tolist(), *other.tolist()]) == list(range(rows))
    assert (np.diff(one) > 0).all()
    assert (np.diff(other) > 0).all()
    assert len(one) == min(max(round(rows * train_size), 1), rows - 1)
    np.testing.assert_array_equal(one, rows_of([train], rows, target))
    if stratify:
        for value in set(target.tolist()):
            count = int(np.count_nonzero(target == value))
            share = count * len(one) / rows
            assert abs(int(np.count_nonzero(target[one] == value)) - share) < 1
    else:
        np.testing.assert_array_equal(one, rows_of([train], rows, None))


@settings(max_examples=100, deadline=None)
@given(target=targets(), first=sizes, second=sizes, seeds_=st.tuples(seeds, seeds))
def test_a_part_of_a_part(target: np.ndarray, first: float, second: float, seeds_: tuple[int, int]) -> None:
    train, test = both(first, seeds_[0])
    inner_train, inner_test = both(second, seeds_[1])
    rows = len(target)
    outer = rows_of([train], rows, target)
    one, other = rows_of([train, inner_train], rows, target), rows_of([train, inner_test], rows, target)
    assert sorted([*one.tolist(), *other.tolist()]) == outer.tolist()
    assert not set(one.tolist()) & set(rows_of([test], rows, target).tolist())
    # the inner split sees only the rows of the part: the same as splitting that part alone
    np.testing.assert_array_equal(one, outer[rows_of([inner_train], len(outer), target[outer])])


@settings(max_examples=300, deadline=None)
@given(counts=st.lists(st.integers(0, 1000), max_size=30), train_size=sizes)
def test_sizes_by_largest_remainder(counts: list[int], train_size: float) -> None:
    found = part_sizes(counts, train_size)
    total = sum(counts)
    assert len(found) == len(counts)
    assert all(0 <= size <= count for size, count in zip(found, counts, strict=True))
    assert sum(found) == (min(max(round(total * train_size), 1), total - 1) if total > 1 else total)


def test_the_rows_that_a_seed_chooses_never_change() -> None:
    """These numbers are a promise: a reference to a part that was written down means the same rows in ten years."""
    target = np.array(list("aabbbcccca"), object)
    assert rows_of([both(0.5)[0]], 10, target).tolist() == EXPECTED[0]
    assert rows_of([both(0.5, 7)[0]], 10, target).tolist() == EXPECTED[1]
    assert rows_of([both(0.3, 1, stratify=False)[0]], 10, None).tolist() == EXPECTED[2]


EXPECTED = [[0, 1, 3, 6, 8], [0, 3, 6, 8, 9], [2, 4, 9]]


@pytest.mark.parametrize("seed", range(5))
def test_seeds_choose_other_rows(seed: int) -> None:
    train, _ = both(0.5, seed)
    other, _ = both(0.5, seed + 1)
    assert rows_of([train], 1000, None).tolist() != rows_of([other], 1000, None).tolist()
    assert abs(int(np.count_nonzero(rows_of([train], 1000, None) < 500)) - 250) < 60
