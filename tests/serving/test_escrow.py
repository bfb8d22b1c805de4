"""The books of a slot: whatever arrives, in whatever pieces, and wherever the process dies, each request is answered once."""

import os
import random
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.serving import escrow
from leptonai.serving.escrow import Escrow, Kind, Slot, standing


@pytest.fixture(scope="module")
def memory() -> Iterator[tuple[int, Escrow]]:
    file = escrow.make(4)
    made = Escrow(file, 4)
    yield file, made
    made.close()
    os.close(file)


class Died(Exception):
    """The process was killed."""


class World:
    """A client, a kernel and the processes of a plane, one after the other; a request is one letter, its answer that letter in
    upper case, with as many marks behind it as its place says. `deaths`: after how many steps each process dies.
    """

    def __init__(self, slot: Slot, requests: str, sizes: list[int], deaths: list[int], chance: random.Random):
        self.slot = slot
        self.coming = b"".join(letter.encode() * size + b"." for letter, size in zip(requests, sizes, strict=True))
        self.expected = [letter.upper() + "!" * size for letter, size in zip(requests, sizes, strict=True)]
        self.inbox = b""  # arrived, not read
        self.read = 0
        self.sent = b""  # with the kernel
        self.unsent = b""  # in the process, to be written
        self.deaths = deaths
        self.left = deaths.pop(0) if deaths else 10**9
        self.chance = chance
        self.closed = False

    def step(self) -> None:
        if self.left == 0:
            raise Died
        self.left -= 1

    def arrive(self) -> None:
        size = self.chance.randint(1, 9)
        self.inbox, self.coming = self.inbox + self.coming[:size], self.coming[size:]

    def flush(self) -> None:
        size = self.chance.randint(0, len(self.unsent)) if self.chance.random() < 0.3 else len(self.unsent)
        self.sent, self.unsent = self.sent + self.unsent[:size], self.unsent[size:]

    def live(self, parsed: bytes, skip: int) -> None:
        """One process, until it dies or all is answered; `parsed`: what it takes over."""
        slot, buffer = self.slot, parsed
        while buffer or self.coming or self.inbox or self.unsent:
            while b"." in buffer:
                request, _, buffer = buffer.partition(b".")
                if skip:
                    skip -= 1
                    continue
                if self.chance.random() < 0.3:
                    self.arrive()
                answer = request[:1].upper() + b"!" * len(request)
                self.step()
                if self.chance.random() < 0.3:  # in pieces
                    cut = self.chance.randint(1, len(answer) - 1)
                    slot.writes(cut, Kind.PIECE)
                    self.step()
                    self.unsent += answer[:cut]
                    if self.chance.random() < 0.5:
                        self.flush()
                    self.step()
                    answer = answer[cut:]
                slot.writes(len(answer), Kind.WHOLE)
                self.step()
                self.unsent += answer
                if self.chance.random() < 0.5:
                    self.flush()
                self.step()
            self.arrive()
            if not buffer and not self.unsent and slot.used:
                slot.empty()
                self.step()
            if self.inbox:
                room = slot.room()
                size = self.chance.randint(1, len(self.inbox))
                room[:size] = self.inbox[:size]
                self.inbox, self.read = self.inbox[size:], self.read + size
                self.step()
                buffer += slot.took(size)
            self.step()
            self.flush()

    def run(self, memory: Escrow) -> None:
        past = escrow.Past(b"", 0)
        while True:
            try:
                self.live(past.data, past.skip)
            except Died:
                self.unsent = b""
                self.left = self.deaths.pop(0) if self.deaths else 10**9
                self.slot = memory.slot(0)
                found = self.slot.inherit(escrow.Standing(self.read, len(self.sent)))
                if found is None:
                    self.closed = True
                    return
                past = found
            else:
                return


@settings(max_examples=400, deadline=None)
@given(
    requests=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 12)), min_size=1, max_size=12),
    deaths=st.lists(st.integers(0, 40), max_size=5),
    seed=st.integers(0, 2**32),
)
def test_each_request_is_answered_once_or_the_connection_ends_within_an_answer(
    memory: tuple[int, Escrow], requests: list[tuple[str, int]], deaths: list[int], seed: int
) -> None:
    file, made = memory
    escrow.clear(file, 0)
    world = World(
        made.slot(0), "".join(r for r, _ in requests), [n for _, n in requests], list(deaths), random.Random(seed)
    )
    world.run(made)
    everything = "".join(world.expected)
    if not world.closed:
        assert world.sent.decode() == everything
    else:  # one answer was sent in part, which nobody can go on with
        assert everything.startswith(world.sent.decode())
        ends = {0}
        for answer in world.expected:
            ends.add(max(ends) + len(answer))
        assert len(world.sent) not in ends


def test_a_slot_that_is_full_is_kept_no_longer_and_the_next_request_is(memory: tuple[int, Escrow]) -> None:
    file, made = memory
    escrow.clear(file, 1)
    slot = made.slot(1)
    slot.took(escrow.ROOM)
    assert len(slot.room()) == escrow.ROOM
    slot.took(1)
    assert made.slot(1).inherit(escrow.Standing(escrow.ROOM + 1, 0)) is None
    slot.writes(10, Kind.WHOLE)
    slot.empty()
    slot.room()[:3] = b"abc"
    assert made.slot(1).inherit(escrow.Standing(escrow.ROOM + 4, 10)) == (b"abc", 0)


def asked(memory: tuple[int, Escrow]) -> Slot:
    """Return a slot with a request of one byte."""
    file, made = memory
    escrow.clear(file, 1)
    slot = made.slot(1)
    slot.room()[:1] = b"a"
    slot.took(1)
    return slot


def test_the_last_answer_of_a_connection_is_its_last(memory: tuple[int, Escrow]) -> None:
    asked(memory).writes(5, Kind.LAST)
    heir = memory[1].slot(1)
    assert heir.inherit(escrow.Standing(1, 0)) == (b"a", 0)  # it was not sent: again
    heir.writes(5, Kind.LAST)
    assert memory[1].slot(1).inherit(escrow.Standing(1, 5)) is None


@pytest.mark.parametrize("sent", [0, 25])
def test_an_interim_answer_is_none(memory: tuple[int, Escrow], sent: int) -> None:
    slot = asked(memory)
    slot.writes(25, Kind.INTERIM)
    heir = memory[1].slot(1)
    assert heir.inherit(escrow.Standing(1, sent)) == (b"a", 0)
    heir.writes(10, Kind.WHOLE)
    assert memory[1].slot(1).inherit(escrow.Standing(1, sent)) == (b"a", 0)
    heir.writes(10, Kind.WHOLE)
    assert memory[1].slot(1).inherit(escrow.Standing(1, sent + 20)) == (b"a", 2)


def test_memory_of_large_requests_is_given_back(memory: tuple[int, Escrow]) -> None:
    file, made = memory
    escrow.clear(file, 2)
    slot = made.slot(2)
    before = os.fstat(file).st_blocks * 512
    slot.room()[: 8 << 20] = bytes([1]) * (8 << 20)
    slot.took(8 << 20)
    assert os.fstat(file).st_blocks * 512 >= before + (8 << 20)
    slot.empty()
    assert os.fstat(file).st_blocks * 512 <= before + (1 << 20)
    slot.close()


def test_the_kernel_says_how_far_a_connection_came() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ours, _ = server.accept()
        with ours:
            assert standing(ours) == (0, 0)
            client.sendall(b"x" * 100)
            assert len(ours.recv(30)) == 30
            ours.sendall(b"y" * 7)
            assert standing(ours) == (30, 7)
            client.shutdown(socket.SHUT_WR)  # it waits for its answer
            assert len(ours.recv(100)) == 70
            assert standing(ours) == (100, 7)
            assert ours.recv(100) == b""
            assert standing(ours) == (100, 7)
            ours.shutdown(socket.SHUT_RDWR)
            assert standing(ours) is None


def test_an_address_may_ask_so_often(memory: tuple[int, Escrow]) -> None:
    _, made = memory
    waits = [made.ask(7, rate=0.5, burst=3) for _ in range(5)]
    assert waits[:3] == [0, 0, 0]
    assert all(1.5 < wait <= 2 for wait in waits[3:])
    assert made.ask(8, rate=0.5, burst=3) == 0  # another address


def test_a_model_that_computes_is_named(memory: tuple[int, Escrow]) -> None:
    from leptonai.serving import marks

    file, made = memory

    class Model:
        def predict(self, inputs: dict[str, int], outputs: object = ()) -> dict[str, int]:
            assert marks.computing(file, escrow.place(3)) == ["model_a"]
            return inputs

        def close(self) -> None:
            pass

    here = made.marks(3)
    loaded = here.around("model_a", Model)()  # type: ignore[arg-type]
    here.around("model_b", Model)()  # type: ignore[arg-type]
    assert loaded.predict({"x": 1}) == {"x": 1}
    assert marks.computing(file, escrow.place(3)) == []
    loaded.close()
