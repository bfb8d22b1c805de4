"""The queue of one model, without HTTP."""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from leptonai.core.errors import Busy, Invalid, Unavailable
from leptonai.serving.plane.batcher import Batcher, Cost, Item

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Model:
    """Doubles x. Waits for `gate` where there is one; refuses a batch that holds -1."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.gate.wait(10)
        self.batches.append(len(inputs["x"]))
        if (inputs["x"] == -1).any():
            raise Invalid("no -1")
        if (inputs["x"] == -2).any():
            raise ZeroDivisionError("oh")
        return {"y": inputs["x"] * 2}


def x(*values: float) -> dict[str, Any]:
    return {"x": np.array(values, np.float64)}


class Put(NamedTuple):
    """A request that was queued, and its outcome to be awaited."""

    item: Item
    future: "asyncio.Future[dict[str, Any]]"

    @property
    def first(self) -> bool:
        return self.item.first


def put(batcher: Batcher, inputs: Mapping[str, Any], rows: int, seconds: float | None = None) -> Put:
    future = asyncio.get_running_loop().create_future()

    def then(item: Item) -> None:
        if future.done():
            return
        if isinstance(item.outcome, Exception):
            future.set_exception(item.outcome)
        else:
            future.set_result(item.outcome)

    return Put(batcher.submit(inputs, rows, then, seconds), future)


async def test_what_waits_is_computed_together() -> None:
    model = Model()
    batcher = Batcher("m", model)
    model.gate.clear()
    items = [put(batcher, x(0.0), 1)]
    await asyncio.sleep(0.05)
    items += [put(batcher, x(float(i), i + 0.5), 2) for i in range(1, 20)]
    model.gate.set()
    found = await asyncio.gather(*(item.future for item in items))
    assert model.batches == [1, 38]
    assert [one["y"].tolist() for one in found[1:]] == [[2.0 * i, 2.0 * i + 1] for i in range(1, 20)]
    assert [item.first for item in items[:3]] == [True, True, False]
    await batcher.close()
    assert not batcher.alive


async def test_a_batch_has_a_size_and_a_large_request_is_sliced() -> None:
    model = Model()
    batcher = Batcher("m", model, batch_rows=4)
    model.gate.clear()
    items = [put(batcher, x(0.0), 1)]
    await asyncio.sleep(0.05)
    items += [put(batcher, x(*range(rows)), rows) for rows in (3, 3, 1, 10, 1)]
    model.gate.set()
    found = await asyncio.gather(*(item.future for item in items))
    assert model.batches == [1, 3, 4, 4, 4, 2, 1]
    assert found[4]["y"].tolist() == [2.0 * i for i in range(10)]
    await batcher.close()


async def test_failures_stay_with_whom_they_belong_to() -> None:
    model = Model()
    batcher = Batcher("m", model)
    model.gate.clear()
    items = [put(batcher, x(value), 1) for value in (5.0, 1.0, -1.0, -2.0, 2.0)]
    model.gate.set()
    found = await asyncio.gather(*(item.future for item in items), return_exceptions=True)
    assert isinstance(found[2], Invalid)
    assert isinstance(found[3], Unavailable)
    assert "ZeroDivisionError" in str(found[3])
    assert [found[i]["y"].tolist() for i in (0, 1, 4)] == [[10.0], [2.0], [4.0]]  # type: ignore[index]
    await batcher.close()


async def test_beyond_its_limit_it_says_so_at_once() -> None:
    model = Model()
    batcher = Batcher("m", model, queue_limit=3)
    model.gate.clear()
    items = [put(batcher, x(1.0), 1) for _ in range(3)]
    with pytest.raises(Busy) as caught:
        put(batcher, x(1.0), 1)
    assert caught.value.retry_after == 1.0
    model.gate.set()
    await asyncio.gather(*(item.future for item in items))
    await put(batcher, x(1.0), 1).future
    await batcher.close()


async def test_a_deadline_names_where_the_time_went() -> None:
    model = Model()
    batcher = Batcher("m", model, seconds=0.1)
    model.gate.clear()
    computing = put(batcher, x(1.0), 1)
    await asyncio.sleep(0.02)
    waiting = put(batcher, x(1.0), 1)
    with pytest.raises(Unavailable, match="computing"):
        await computing.future
    with pytest.raises(Unavailable, match="waiting in the queue"):
        await waiting.future
    model.gate.set()
    await batcher.drain()
    assert model.batches == [1]  # what nobody waits for any more is not computed
    assert (await put(batcher, x(1.0), 1).future)["y"].tolist() == [2.0]
    await batcher.close()


async def test_a_caller_that_goes_away_harms_nobody() -> None:
    model = Model()
    batcher = Batcher("m", model)
    model.gate.clear()
    items = [put(batcher, x(float(i)), 1) for i in range(5)]
    items[2].future.cancel()
    model.gate.set()
    found = await asyncio.gather(*(item.future for item in items), return_exceptions=True)
    assert [one["y"].tolist() for i, one in enumerate(found) if i != 2] == [[0.0], [2.0], [6.0], [8.0]]  # type: ignore[index]
    await batcher.close()


async def test_close_answers_what_was_accepted() -> None:
    model = Model()
    batcher = Batcher("m", model)
    model.gate.clear()
    item = put(batcher, x(3.0), 1)
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    model.gate.set()
    await closing
    assert item.future.result()["y"].tolist() == [6.0]


async def test_inputs_that_cannot_be_joined_are_computed_alone() -> None:
    def total(inputs: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(0.01)
        return {"y": inputs["x"].sum(axis=1)}

    batcher = Batcher("m", total)
    items = [put(batcher, {"x": np.ones((1, width))}, 1) for width in (2, 3, 4)]
    found = await asyncio.gather(*(item.future for item in items))
    assert [one["y"].tolist() for one in found] == [[2.0], [3.0], [4.0]]
    await batcher.close()


async def test_a_quick_model_is_computed_on_the_loop_with_all_that_arrived_together() -> None:
    threads: list[str] = []
    sizes: list[int] = []

    def quick(inputs: Mapping[str, Any]) -> dict[str, Any]:
        threads.append(threading.current_thread().name)
        sizes.append(len(inputs["x"]))
        if (inputs["x"] == 13).any():
            time.sleep(0.05)
        return {"y": inputs["x"] * 2}

    batcher = Batcher("m", quick, cost=Cost(1, 1e-5), batch_rows=8)
    items = [put(batcher, x(float(i)), 1) for i in range(10)]
    assert sizes == []  # not before this turn of the loop is over
    found = await asyncio.gather(*(item.future for item in items))
    assert [one["y"].tolist() for one in found] == [[2.0 * i] for i in range(10)]
    assert (sizes, set(threads)) == ([8, 2], {threading.main_thread().name})
    for _ in range(8):  # it has become slow: what comes then is for the thread
        await put(batcher, x(13.0), 1).future
    await put(batcher, x(*range(20)), 20).future
    assert threads[-1] == "model m"
    assert sizes[-3:] == [8, 8, 4]
    await batcher.close()


async def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    def slow(inputs: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(0.02 * len(inputs["x"]))
        return {"y": inputs["x"]}

    batcher = Batcher("m", slow, cost=Cost(1, 0.02), batch_rows=4)
    items = [put(batcher, x(float(i)), 1) for i in range(10)]
    start = time.thread_time()
    with pytest.raises(Busy, match=r"needs about 0\.\d+ s") as caught:
        put(batcher, x(1.0), 1, seconds=0.05)
    assert time.thread_time() - start < 0.02
    assert caught.value.retry_after == 1.0
    assert (await put(batcher, x(1.0), 1, seconds=5.0).future)["y"].tolist() == [1.0]
    assert len(await asyncio.gather(*(item.future for item in items))) == 10
    await batcher.close()


async def test_what_a_few_rows_cost_turns_nobody_away_who_comes_behind_many() -> None:
    """After a start eight rows were seen, which took long since the machine was busy; a hundred thousand rows take 50 ms."""

    def quick(inputs: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(0.5e-6 * len(inputs["x"]))
        return {"y": inputs["x"]}

    batcher = Batcher("m", quick, cost=Cost(8, 0.002))
    many = put(batcher, {"x": np.zeros(100_000)}, 100_000)
    few = [put(batcher, x(float(i)), 1) for i in range(10)]
    await asyncio.gather(many.future, *(item.future for item in few))
    for _ in range(60):  # the large one is forgotten
        await put(batcher, x(1.0), 1).future
    many = put(batcher, {"x": np.zeros(100_000)}, 100_000)
    few = [put(batcher, x(float(i)), 1) for i in range(10)]
    await asyncio.gather(many.future, *(item.future for item in few))
    await batcher.close()


async def test_what_was_learnt_while_the_machine_paused_does_not_turn_callers_away_for_ever() -> None:
    batcher = Batcher("m", Model(), cost=Cost(1, 30.0))
    assert (await put(batcher, x(1.0), 1, seconds=1.0).future)["y"].tolist() == [2.0]
    for _ in range(3):  # what was computed is remembered, and the next ones are let in at once
        assert (await put(batcher, x(1.0), 1, seconds=29.0).future)["y"].tolist() == [2.0]
    await batcher.close()


def test_a_line_through_a_few_rows_is_not_believed_far_beyond_them() -> None:
    cost = Cost(8, 0.01)
    assert cost.at_least(100) == cost.of(100)
    assert cost.at_least(100_000) < 0.5 < cost.of(100_000)
    cost.learn(100_000, 3.0)
    assert cost.at_least(100_000) == cost.of(100_000) == pytest.approx(3.0, rel=0.1)


async def test_who_set_no_deadline_does_not_wait_long_behind_others() -> None:
    model = Model()
    model.gate.clear()
    batcher = Batcher("m", model, cost=Cost(1, 0.5), batch_rows=1)
    items: list[Put] = []
    with pytest.raises(Busy, match="try again"):
        while len(items) < 100:
            items.append(put(batcher, x(1.0), 1))
    assert 2 <= len(items) <= 12, "about two seconds' worth"
    items.append(put(batcher, x(1.0), 1, seconds=50.0))  # who says so may wait
    items.append(put(batcher, x(*range(100)), 100))  # and so may who brings much work himself
    model.gate.set()
    assert len(await asyncio.gather(*(item.future for item in items))) == len(items)
    await batcher.close()


async def test_while_a_batch_takes_much_longer_than_thought_fewer_are_let_in_behind_it() -> None:
    model = Model()
    model.gate.clear()
    batcher = Batcher("m", model, cost=Cost(1, 0.01), batch_rows=1)
    items = [put(batcher, x(1.0), 1)]
    await asyncio.sleep(0.1)  # it was to take 10 ms
    with pytest.raises(Busy, match="try again"):
        while len(items) < 1000:
            items.append(put(batcher, x(1.0), 1))
    assert 40 <= len(items) <= 60, "two seconds' worth are 200, and it is taken to be four times slower at most"
    model.gate.set()
    assert len(await asyncio.gather(*(item.future for item in items))) == len(items)
    await batcher.close()


def test_what_was_known_of_the_slope_is_not_forgotten_while_all_batches_are_of_one_size() -> None:
    cost, flat = Cost(8, 0.008, 0.001), Cost(8, 0.005, 0.005)  # one core, and what a GPU does
    for _ in range(200):
        cost.learn(8, 0.008)
        flat.learn(8, 0.005)
    assert cost.together(1024, 256) == pytest.approx(1.024, rel=0.01)
    assert flat.together(1024, 256) == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize(("fixed", "each"), [(0.001, 0.0001), (0.0, 0.00005), (0.005, 0.0)])
def test_the_cost_of_a_batch_is_learnt(fixed: float, each: float) -> None:
    rng = np.random.default_rng(0)
    cost = Cost(8, 0.01)
    for _ in range(400):
        rows = int(rng.integers(1, 65))
        cost.learn(rows, (fixed + each * rows) * rng.normal(1.0, 0.05))
    for rows in (1, 8, 64):
        assert cost.of(rows) == pytest.approx(fixed + each * rows, rel=0.25)
    assert cost.rows_within(0.004) >= 1


def test_the_cost_of_batches_of_one_size_stays_what_it_is() -> None:
    cost = Cost(8, 0.001)
    for _ in range(1000):
        cost.learn(1, 0.0005)
    assert cost.of(1) == pytest.approx(0.0005, rel=0.05)
    cost.learn(1, 60.0)  # the machine was asleep
    assert cost.of(1) < 0.002
