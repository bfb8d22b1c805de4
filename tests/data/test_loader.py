"""The order of an epoch, and rows that are read ahead: the same batches after a resume, disjoint ranks, errors, no thread left."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.stages import Shuffle
from leptonai.data.loader import Loader
from leptonai.data.loader_order import Epoch, Numbers, Piece

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=30)
SHUFFLES = st.none() | st.builds(Shuffle, seed=st.integers(0, 3), window=st.integers(0, 200))


class Made:
    """A source whose rows are their own numbers."""

    width = 8

    def __init__(self, counts: Sequence[int], broken: int | None = None):
        self.counts = counts
        self.begins = np.cumsum([0, *counts])
        self.broken = broken
        self.loads: list[int] = []

    def load(self, piece: Piece) -> dict[str, Any]:
        if piece.shard == self.broken:
            raise OSError("the disk is gone")
        self.loads.append(piece.shard)
        return {"n": np.arange(self.begins[piece.shard] + piece.low, self.begins[piece.shard] + piece.high)}

    def blocks(self, piece: Piece) -> Iterator[dict[str, Any]]:
        rows = self.load(piece)["n"]
        yield from ({"n": rows[at : at + 3]} for at in range(0, len(rows), 3))

    def room(self, rows: int) -> dict[str, Any]:
        return {"n": np.full(rows, -1)}

    def gather(self, numbers: Numbers) -> dict[str, Any]:
        return {"n": np.array(numbers)}


@given(counts=COUNTS, shuffle=SHUFFLES, epoch=st.integers(0, 3), world=st.integers(1, 5))
def test_each_row_comes_once_and_ranks_share_them(
    counts: list[int], shuffle: Shuffle | None, epoch: int, world: int
) -> None:
    orders = [Epoch(counts, shuffle, epoch, rank, world) for rank in range(world)]
    numbers = [order.numbers().tolist() for order in orders]
    assert {len(found) for found in numbers} == {sum(counts) // world}
    together = [number for found in numbers for number in found]
    assert len(set(together)) == len(together)
    assert set(together) <= set(range(sum(counts)))
    if shuffle is None:
        assert together == sorted(together)


@given(
    counts=COUNTS,
    shuffle=SHUFFLES,
    memory=st.sampled_from([0, 100, 1000, 1 << 20]),
    size=st.integers(1, 50),
    data=st.data(),
)
def test_batches_follow_the_order_within_any_memory_and_from_any_place(
    counts: list[int], shuffle: Shuffle | None, memory: int, size: int, data: Any
) -> None:
    world = data.draw(st.integers(1, 3))
    rank = data.draw(st.integers(0, world - 1))
    order = Epoch(counts, shuffle, 1, rank, world).numbers().tolist()
    start = data.draw(st.integers(0, len(order)))
    loader = Loader(Made(counts), memory)
    for _ in range(2):  # the second time, perhaps, from memory
        found = [b["n"].tolist() for b in loader.batches(size, shuffle, 1, start, rank=rank, world=world)]
        assert [n for batch in found for n in batch] == order[start:]
        assert all(len(batch) == size for batch in found[:-1])


def test_a_window_shuffle_reads_each_shard_once_and_mixes_within_its_window() -> None:
    source = Made([100] * 40)
    loader = Loader(source, 0)
    first = [n for b in loader.batches(64, Shuffle(0, 1000), 0) for n in b["n"].tolist()]
    assert sorted(source.loads) == list(range(40))
    again = [n for b in loader.batches(64, Shuffle(0, 1000), 1) for n in b["n"].tolist()]
    assert sorted(first) == sorted(again) == list(range(4000))
    assert first != again
    assert len({n // 100 for n in first[:64]}) == 8  # of eight shards already in the first batch


def test_memory_is_bounded_by_windows_and_the_first_batch_waits_for_the_first_only() -> None:
    source = Made([100] * 1000)
    loader = Loader(source, 3 * 8 * 1000)
    assert loader.window == 1000
    batches = loader.batches(64, Shuffle(0, loader.window))
    next(batches)
    assert len(source.loads) <= 8 + 10
    batches.close()
    in_order = Loader(source, 0).batches(64)
    source.loads.clear()
    next(in_order)
    assert len(source.loads) <= 3
    in_order.close()


def test_what_fits_is_read_once_and_used_before_all_of_it_is_there() -> None:
    source = Made([100] * 50)
    loader = Loader(source, 1 << 20)
    batches = loader.batches(100)
    assert next(batches)["n"].tolist() == list(range(100))
    batches.close()
    assert loader.held is None  # what was not read to its end is not kept
    assert sum(len(b["n"]) for b in loader.batches(64)) == 5000
    source.loads.clear()
    assert sum(len(b["n"]) for b in loader.batches(64, Shuffle(1), 3)) == 5000
    assert source.loads == []


@pytest.mark.parametrize("memory", [0, 1 << 20])
@pytest.mark.parametrize("shuffle", [None, Shuffle(0, 200)])
def test_what_goes_wrong_in_a_thread_is_raised_and_no_thread_stays(memory: int, shuffle: Shuffle | None) -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        list(Loader(Made([50] * 9, broken=7), memory).batches(32, shuffle))
    half = Loader(Made([50] * 9), memory).batches(32, shuffle)
    next(half)
    half.close()
    assert threading.active_count() == before
