"""How many replicas there should be: the decisions, on queues that are simulated."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.core.errors import Invalid
from leptonai.core.replicas import Replicas
from leptonai.serving import scaling
from leptonai.serving.scaling import STREAMS, Plan, Room, Scaling, Sight
from leptonai.serving.tally import BOUNDS

STEP = 0.25
FREE = Room(64)


def calm(ready: int, busy: float = 0.0) -> Sight:
    return Sight(ready, busy, 0.0)


def late(ready: int, wait: float = 0.18) -> Sight:
    return Sight(ready, float(ready), wait, waiting=10)


class Queue:
    """A version whose batches take one second of a replica for each request: `load` is what comes, in replicas' worth."""

    def __init__(self, asked: Replicas, start_seconds: float = 1.0):
        self.scaling = Scaling(asked, asked.min, 0.0)
        self.now = 0.0
        self.ready = asked.min
        self.changes: list[tuple[float, str]] = []
        self._backlog = 0.0
        self._starting: list[float] = []
        self._start_seconds = start_seconds

    def run(self, seconds: float, load: float, room: Room = FREE) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += STEP
            self.ready += sum(at <= self.now for at in self._starting)
            self._starting = [at for at in self._starting if at > self.now]
            had = self._backlog + load * STEP
            did = min(had, self.ready * STEP)
            self._backlog = had - did
            seen = Sight(self.ready, did / STEP, self._backlog / self.ready, waiting=int(self._backlog))
            before = self.scaling.wanted
            plan = self.scaling.look(self.now, seen, room)
            assert bool(plan.why) == (plan.wanted != before)
            if plan.wanted > before:
                self._starting += [self.now + self._start_seconds] * (plan.wanted - before)
            else:
                self.ready -= before - plan.wanted
            if plan.why:
                self.changes.append((self.now, plan.why))


def test_up_within_seconds_and_down_after_a_while() -> None:
    queue = Queue(Replicas(min=1, max=4, down_seconds=30))
    queue.run(60, 0.5)
    assert queue.changes == []
    queue.run(20, 3.4)
    assert queue.scaling.wanted == 4
    assert queue.changes[-1][0] < 80
    queue.run(60, 3.4)
    before = len(queue.changes)
    queue.run(29, 0.3)
    assert queue.scaling.wanted == 4
    queue.run(120, 0.3)
    assert queue.scaling.wanted == 1
    assert len(queue.changes) == before + 3
    assert "3 would have been enough for 30 s" in queue.changes[before][1]


def test_what_it_says() -> None:
    found = Scaling(Replicas(min=2, max=4), 2, 0.0)
    for now in (0.0, 0.5):
        assert found.look(now, late(2), FREE) == Plan(2)
    assert found.look(1.0, late(2), FREE) == Plan(3, "2 -> 3 replicas: p90 wait 180 ms over 100 ms")
    assert found.look(2.0, late(2), FREE) == Plan(3)  # it is being started
    found.look(2.5, late(3), Room(3, "memory has room for no more"))
    found.look(9.0, late(3), Room(3, "memory has room for no more"))
    assert found.stuck == "p90 wait 180 ms over 100 ms; memory has room for no more"
    found.ask(Replicas(min=1, max=1), 10.0)
    assert found.look(10.0, calm(3), FREE) == Plan(1, "3 -> 1 replica: there may be 1 at most")


def test_a_wait_that_workers_are_not_to_blame_for_starts_none() -> None:
    found = Scaling(Replicas(min=1, max=4), 1, 0.0)
    assert all(found.look(n / 4, Sight(1, 0.1, 5.0, waiting=0), FREE) == Plan(1) for n in range(400))


def test_many_answers_in_pieces_want_more() -> None:
    found = Scaling(Replicas(min=1, max=3), 1, 0.0)
    plans = [found.look(n / 4, Sight(1, 1.0, 0.0, streams=STREAMS + 1), FREE) for n in range(10)]
    assert plans[-1].wanted == 2
    assert "9 answers in pieces at once" in next(plan.why for plan in plans if plan.why)


asked = st.builds(
    lambda low, more, wait, down: Replicas(min=low, max=low + more, wait_ms=wait, down_seconds=down),
    st.integers(1, 8), st.integers(0, 8), st.floats(1, 1000), st.floats(0.5, 60),
)  # fmt: skip
sights = st.builds(
    Sight, st.integers(0, 16), st.floats(0, 16), st.floats(0, 60), st.integers(0, 1000), st.integers(0, 300)
)


@given(asked, st.lists(st.tuples(sights, st.integers(0, 20)), max_size=60))
def test_whatever_is_seen_it_stays_within_what_was_asked_and_says_why_it_moves(
    asked: Replicas, seen: list[tuple[Sight, int]]
) -> None:
    found = Scaling(asked, asked.min, 0.0)
    for step, (sight, most) in enumerate(seen):
        before = found.wanted
        plan = found.look(step * STEP, sight, Room(most, "there is no room"))
        assert plan.wanted == found.wanted
        assert asked.min <= plan.wanted <= asked.max
        assert bool(plan.why) == (plan.wanted != before)
        assert plan.wanted <= max(before, most)  # no room takes none away, and starts none
        if plan.wanted > before:
            assert plan.wanted <= 2 * before
            assert sight.ready >= before
        assert before - plan.wanted <= 1


@settings(deadline=None, max_examples=25)
@given(st.floats(0.05, 7.5), st.floats(0.3, 8.0))
def test_a_load_that_stays_gets_enough_and_is_left_in_peace(load: float, start_seconds: float) -> None:
    queue = Queue(Replicas(min=1, max=16, down_seconds=5), start_seconds)
    queue.run(120, load)
    assert queue.scaling.wanted >= load
    queue.run(900, load)
    assert queue.scaling.wanted >= load
    assert [at for at, _ in queue.changes if at > 300] == [], queue.changes[-6:]


@given(st.lists(st.integers(0, 300), min_size=1, max_size=len(BOUNDS) + 1), st.floats(0.01, 1.0))
def test_the_time_that_a_share_waits_no_longer_than(counts: list[int], share: float) -> None:
    found = scaling.quantile(counts, share)
    if sum(counts) == 0:
        assert found == 0.0
    else:
        place = len(BOUNDS) - 1 if found == BOUNDS[-1] else BOUNDS.index(found)
        assert sum(counts[: place + 1]) >= share * sum(counts) or place == len(BOUNDS) - 1


def test_how_many_fit() -> None:
    mib = 2**20
    assert scaling.room(8, 2, 16, 0.9, None, 300 * mib) == Room(8)
    assert scaling.room(8, 2, 16, 0.9, 700 * mib, 300 * mib) == Room(4, "memory has no room for another one of 300 MiB")
    assert scaling.room(8, 2, 2, 0.9, None, 0).most == 2
    assert "2 cores let no more than 2 compute at once" in scaling.room(8, 1, 2, 0.9, None, 0).why
    assert scaling.room(8, 2, 2, 0.1, None, 0) == Room(8)  # it waits for others, not for a core
    assert scaling.room(8, 1, 4, 2.0, None, 0).most == 2  # each computes with two


def test_ranges() -> None:
    assert str(Replicas(min=1, max=4)) == "1..4"
    assert str(Replicas(min=2, max=2)) == "2"
    with pytest.raises(Invalid, match=r"such as 2\.\.4"):
        Replicas(min=4, max=2)
    assert scaling.merged([]) is None
    two = [Replicas(min=1, max=8, wait_ms=50), Replicas(min=2, max=4)]
    assert scaling.merged(two) == Replicas(min=2, max=8, wait_ms=50)
