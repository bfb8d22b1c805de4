"""Rows without a label are left out, in whatever order and from whatever place rows are read."""

from typing import Any

import numpy as np
import pytest
from tests.support.handle import reader_of

from leptonai.core.stages import Shuffle
from leptonai.training.labelled import Labelled, may_lack


def readers(rows: int = 100) -> tuple[Any, Labelled]:
    rng = np.random.default_rng(0)
    label = np.array([None if rng.random() < 0.6 else str(i % 3) for i in range(rows)], object)
    whole = reader_of({"n": np.arange(rows, dtype=float), "y": label}, "y")
    whole.columns = tuple(column.model_copy(update={"nullable": column.name == "y"}) for column in whole.columns)
    return whole, Labelled(whole, "y")


def test_they_are_counted_and_read() -> None:
    whole, some = readers()
    kept = [i for i, label in enumerate(whole.read()["y"]) if label is not None]
    assert some.numbers.tolist() == kept and some.rows == len(kept)
    assert some.read(("n",))["n"].tolist() == kept
    others = Labelled(whole, "y", wanted=False)
    assert sorted([*others.numbers.tolist(), *kept]) == list(range(100))
    assert may_lack(whole, "y") and not may_lack(whole, "n")


@pytest.mark.parametrize("shuffle", [None, Shuffle(3)])
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_batches_are_those_of_the_epoch_from_any_place(shuffle: Shuffle | None, size: int) -> None:
    _, some = readers()
    order = np.arange(some.rows) if shuffle is None else some.order(shuffle, 2)
    wanted = some.numbers[order]
    for start in (0, 1, 5, some.rows - 1, some.rows):
        batches = [batch["n"] for batch in some.batches(size, columns=("n",), shuffle=shuffle, epoch=2, start=start)]
        found = np.concatenate(batches) if batches else np.empty(0)
        assert found.tolist() == wanted[start:].tolist()
        assert all(len(batch) == size for batch in batches[:-1])
