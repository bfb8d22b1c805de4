"""The law of shares: whatever the batch and the number of processes, each row is learnt from once, in the same order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.handle import reader_of

from leptonai.core.nouns import FeatureType
from leptonai.core.stages import Shuffle
from leptonai.data.loader_order import Epoch
from leptonai.training import encoder
from leptonai.training.rows import Rows
from leptonai.training.sharing import Share

MANY = st.integers(1, 9)


@given(rows=st.integers(0, 500), of=MANY)
def test_shares_are_disjoint_and_complete_and_nearly_as_large(rows: int, of: int) -> None:
    parts = [range(rows)[Share(number, of).part(rows)] for number in range(of)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert all(len(part) != 1 for part in parts) or of == 1 or rows == 1, "layers that measure a batch need two rows"
    if rows >= 2 * of:
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def rows_of(count: int, share: Share, memory: int) -> Rows:
    reader = reader_of({"a": np.arange(count, dtype=float), "y": np.arange(count, dtype=float)}, "y")
    encoding = encoder.fit(reader, None, "y", encoder.Options(scale=False))
    assert encoding.features[0].type == FeatureType.NUMBER
    return Rows(reader, encoding, memory=memory, share=share)


@given(count=st.integers(1, 120), size=st.integers(2, 40), of=MANY, start=st.integers(0, 5), epoch=st.integers(0, 3))
def test_batches_of_all_together_are_those_of_one(count: int, size: int, of: int, start: int, epoch: int) -> None:
    shuffle = Shuffle(3)
    whole = [y for _, y in rows_of(count, Share(), 1 << 30).batches(size, shuffle, epoch, start * size)]
    parts = [rows_of(count, Share(number, of), 1 << 30) for number in range(of)]
    given_ = [[y for _, y in part.batches(size, shuffle, epoch, start * size)] for part in parts]
    assert [np.concatenate(batch).tolist() for batch in zip(*given_, strict=True)] == [y.tolist() for y in whole]
    assert {part.steps(size) for part in parts} == {-(-count // size)}
    order = np.concatenate([y for _, y in rows_of(count, Share(), 1 << 30).batches(size, shuffle, epoch)])
    for part, batches in zip(parts, given_, strict=True):
        for number, batch in enumerate(batches, start):
            at = part.place(size, number)
            assert order[at : at + len(batch)].tolist() == batch.tolist()


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    of=MANY,
    window=st.integers(0, 60),
    epoch=st.integers(0, 3),
)
def test_readers_of_shards_get_as_many_rows_and_none_twice(counts: list[int], of: int, window: int, epoch: int) -> None:
    found = [Epoch(counts, Shuffle(1, window), epoch, rank, of).numbers() for rank in range(of)]
    assert {len(numbers) for numbers in found} == {sum(counts) // of}
    rows = np.concatenate(found)
    assert len(np.unique(rows)) == len(rows)
    assert sum(counts) - len(rows) < of


@pytest.mark.parametrize("of", [2, 3])
def test_rows_that_are_not_held_are_shared_by_shards(of: int) -> None:
    parts = [rows_of(100, Share(number, of), 0) for number in range(of)]
    assert {part.steps(30) for part in parts} == {-(-(100 // of) // (30 // of))}
    for epoch in range(2):
        found = [np.concatenate([y for _, y in part.batches(30, Shuffle(3), epoch)]) for part in parts]
        assert {len(rows) for rows in found} == {100 // of}
        assert len(np.unique(np.concatenate(found))) == 100 // of * of
        later = [np.concatenate([y for _, y in part.batches(30, Shuffle(3), epoch, 30)]) for part in parts]
        for rows, rest in zip(found, later, strict=True):
            assert rest.tolist() == rows[30 // of :].tolist()
