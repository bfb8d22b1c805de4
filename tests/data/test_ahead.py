"""Items made ahead: in order, faults where they belong, nothing left running when the reader stops."""

import threading
from collections.abc import Generator

import pytest

from leptonai.data.ahead import ahead


def test_items_come_in_order_and_one_is_made_meanwhile() -> None:
    made: list[int] = []
    used = threading.Event()

    def items() -> Generator[int, None, None]:
        for number in range(5):
            made.append(number)
            yield number
            used.set()

    found = []
    for item in ahead(items()):
        if item == 0:
            assert used.wait(10)  # the next is made while this one is used
        found.append(item)
    assert found == made == list(range(5))


def test_a_fault_comes_after_what_was_made_before_it() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise ValueError("two")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="two"):
        next(found)


def test_who_stops_early_leaves_nothing_running() -> None:
    ended = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    found = ahead(items())
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert ended.is_set()
