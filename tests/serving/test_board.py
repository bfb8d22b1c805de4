"""What the processes of a plane let each other know, and counts that outlive a process."""

import json
import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.serving.plane.board import Board
from leptonai.serving.plane.metrics import Labels, Metrics

SIZE = 1 << 16


@pytest.fixture
def memory() -> Iterator[list[int]]:
    boards = [os.memfd_create("board") for _ in range(3)]
    for board in boards:
        os.ftruncate(board, SIZE)
    yield boards
    for board in boards:
        os.close(board)


def opened(memory: list[int], own: int) -> Board:
    return Board([os.dup(board) for board in memory], own)


def test_a_note_is_read_by_the_others_and_by_the_next_in_its_place(memory: list[int]) -> None:
    one, two = opened(memory, 0), opened(memory, 1)
    assert (one.own(), one.others()) == (None, [])
    one.write(json.dumps({"a": 1}))
    assert (two.others(), two.own()) == ([{"a": 1}], None)
    for number in range(5):
        one.write(json.dumps({"a": number}))
        assert two.others() == [{"a": number}]
    assert opened(memory, 0).own() == {"a": 4}


def test_without_boards_nobody_else_knows() -> None:
    board = Board()
    board.write(json.dumps({"a": 1}))
    assert (board.own(), board.others()) == (None, [])


def test_a_writer_that_dies_in_the_middle_leaves_the_note_before(memory: list[int]) -> None:
    one, two = opened(memory, 0), opened(memory, 1)
    one.write(json.dumps({"a": 1}))
    one.write(json.dumps({"a": 2}))
    whole = os.pread(memory[0], SIZE, 0)
    one.write(json.dumps({"a": 3, "more": "x" * 100}))
    third = os.pread(memory[0], SIZE, 0)
    changed = [at for at in range(SIZE) if whole[at] != third[at]]
    order = sorted(changed, key=lambda at: at < 64)  # the number in front changes last
    for count in range(len(order)):
        half = bytearray(whole)
        for at in order[:count]:
            half[at] = third[at]
        os.pwrite(memory[0], bytes(half), 0)
        assert two.others() == [{"a": 2}]
    os.pwrite(memory[0], third, 0)
    assert two.others() == [{"a": 3, "more": "x" * 100}]


def test_a_note_that_is_too_large_stays_away(memory: list[int]) -> None:
    one, two = opened(memory, 0), opened(memory, 1)
    one.write(json.dumps({"a": 1}))
    one.write(json.dumps({"a": "x" * SIZE}))
    assert two.others() == [{"a": 1}]


def test_readers_see_whole_notes_while_one_writes(memory: list[int]) -> None:
    one, two = opened(memory, 0), opened(memory, 1)
    one.write(json.dumps({"n": 0, "pad": ""}))
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            one.write(json.dumps({"n": number, "pad": "x" * (number % 500)}))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        last = 0
        for _ in range(2000):
            for note in two.others():  # none where the writer was faster three times
                assert len(note["pad"]) == note["n"] % 500
                assert note["n"] >= last
                last = note["n"]
    finally:
        stop.set()
        thread.join()
    assert last > 0


LABELS = [Labels("a", "1", "stable"), Labels("a", "2", "canary"), Labels()]


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from((200, 422, 503)), st.floats(0, 20)), max_size=40))
def test_any_process_answers_for_all(events: list[tuple[Labels, int, float]]) -> None:
    boards = [os.memfd_create("board") for _ in range(2)]
    try:
        for board in boards:
            os.ftruncate(board, 1 << 20)
        alone = Metrics(lambda: {LABELS[0]: 3})
        shared = [Metrics(lambda n=n: {LABELS[0]: n}, opened(boards, slot)) for slot, n in enumerate((1, 2))]  # type: ignore[misc]
        for place, (labels, code, seconds) in enumerate(events):
            for metrics in (alone, shared[place % 2]):
                metrics.of(labels).count(code)
                metrics.of(labels).stages["total"].observe(seconds)
                metrics.of(labels).batch.observe(place)
        for metrics in shared:
            metrics.post()
        for metrics in shared:
            assert _rounded(metrics.text()) == _rounded(alone.text())
        again = Metrics(lambda: {LABELS[0]: 1}, opened(boards, 0))  # the first one died, and was started again
        assert _rounded(again.text()) == _rounded(alone.text())
    finally:
        for board in boards:
            os.close(board)


def _rounded(text: str) -> list[str]:
    """Sums of floats depend on their order."""
    lines = text.splitlines()
    return [
        f"{line.rpartition(' ')[0]} {float(line.rpartition(' ')[2]):.6g}" if not line.startswith("#") else line
        for line in lines
    ]
