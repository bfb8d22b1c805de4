"""Items made ahead: in order, faults where they belong, nothing left running when the reader stops."""

import threading
import time
from collections.abc import Generator

import pytest

from leptonai.core.ahead import ahead


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_items_come_in_order_and_so_many_are_made_meanwhile(depth: int) -> None:
    made: list[int] = []
    used = threading.Event()

    def items() -> Generator[int, None, None]:
        for number in range(9):
            made.append(number)
            if number == depth:
                used.set()
            yield number

    found = []
    for item in ahead(items(), depth):
        if item == 0:
            assert used.wait(10)  # the next are made while this one is used
            time.sleep(0.05)
            assert len(made) == 1 + depth  # and no more than that
        found.append(item)
    assert found == made == list(range(9))


@pytest.mark.parametrize("depth", [1, 3])
def test_a_fault_comes_after_what_was_made_before_it(depth: int) -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise ValueError("two")

    found = ahead(items(), depth)
    assert next(found) == 1
    with pytest.raises(ValueError, match="two"):
        next(found)


@pytest.mark.parametrize("depth", [1, 3])
def test_who_stops_early_leaves_nothing_running(depth: int) -> None:
    ended = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    found = ahead(items(), depth)
    next(found)
    found.close()
    assert ended.is_set()
