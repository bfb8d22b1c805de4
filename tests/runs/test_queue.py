"""The run engine, move by move, on a real catalog with a clock that the test moves."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from leptonai.core import plugins
from leptonai.core.errors import Busy, Conflict, Fenced, Invalid, NotFound
from leptonai.core.nouns import Audit, Event, Run, Site, utcnow
from leptonai.core.ports import Catalog
from leptonai.core.stages import Changes, Plan
from leptonai.core.states import RunState
from leptonai.runs.queue import Asked, Queue


class Clock:
    def __init__(self) -> None:
        self.at = utcnow()

    def __call__(self) -> datetime:
        return self.at

    def on(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = plugins.catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield catalog
    catalog.close()  # type: ignore[attr-defined]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(catalog: Catalog, clock: Clock) -> Queue:
    return Queue(catalog, lease_seconds=30, now=clock)


def submit(queue: Queue, **fields: object) -> Run:
    return queue.submit(Asked("train", by="ann", **fields), Plan({"data": "d"}, ("blob",), "torch", "mine"))  # type: ignore[arg-type]


def test_the_plain_way(queue: Queue, catalog: Catalog) -> None:
    run = submit(queue)
    assert (run.state, run.name, run.flavour, run.opens, run.by) == (RunState.QUEUED, "mine", "torch", ("blob",), "ann")
    claim = queue.claim("home", "a")
    assert claim is not None
    assert claim.token.startswith(f"lrt_{run.id}~")
    assert claim.token not in catalog.get(Run, run.id).model_dump_json(), "only a digest is kept"
    assert queue.heartbeat("a", [(run.id, 1)]) == {run.id: "ok"}
    queue.append(run.id, 1, [Event(stream="metric", body={"step": 1, "loss": 0.1})])
    queue.checkpoint(run.id, 1, {"weights": "b1"})
    ended = queue.finish(run.id, 1, RunState.SUCCEEDED, result={"x": 1})
    assert (ended.state, ended.result, ended.checkpoint, ended.lease_until) == (
        "succeeded",
        {"x": 1},
        {"weights": "b1"},
        None,
    )
    assert [a.name for a in catalog.find(Audit, {"subject": run.id})] == ["run.submit"]
    assert queue.claim("home", "a") is None


def test_the_same_end_said_twice_is_one_end(queue: Queue) -> None:
    run = submit(queue)
    queue.claim("home", "a")
    first = queue.finish(run.id, 1, RunState.SUCCEEDED, result={"x": 1})
    assert queue.finish(run.id, 1, RunState.SUCCEEDED, result={"x": 1}) == first
    assert queue.finish(run.id, 1, RunState.FAILED) == first, "what ended stays as it ended"
    with pytest.raises(Fenced):
        queue.finish(run.id, 2, RunState.FAILED)


def test_a_failure_that_may_be_tried_again(queue: Queue) -> None:
    run = submit(queue, max_attempts=2)
    queue.claim("home", "a")
    again = queue.finish(run.id, 1, RunState.FAILED, error={"code": "error", "message": "killed"}, retry=True)
    assert again.state is RunState.QUEUED
    assert queue.finish(run.id, 1, RunState.FAILED, retry=True).state is RunState.QUEUED, "said twice"
    claim = queue.claim("home", "b")
    assert claim is not None
    assert claim.run.epoch == 2
    with pytest.raises(Fenced):
        queue.append(run.id, 1, [Event(stream="log", body={"line": "late"})])
    assert queue.finish(run.id, 2, RunState.FAILED, retry=True).state is RunState.FAILED, "no attempt is left"


def test_a_lease_is_written_again_only_when_some_of_it_is_over(queue: Queue, clock: Clock, catalog: Catalog) -> None:
    run = submit(queue)
    queue.claim("home", "a")
    revs = set()
    for _ in range(100):  # of a heartbeat a second
        clock.on(1)
        assert queue.heartbeat("a", [(run.id, 1)]) == {run.id: "ok"}
        now = catalog.get(Run, run.id)
        assert now.lease_until is not None
        assert now.lease_until - clock() > timedelta(seconds=24), "of thirty"
        revs.add(now.rev)
    assert len(revs) <= 21


def test_a_paused_agent_writes_nothing_after_its_lease(queue: Queue, clock: Clock, catalog: Catalog) -> None:
    run = submit(queue)
    queue.claim("home", "asleep")
    queue.checkpoint(run.id, 1, {"weights": "first"})
    clock.on(31)
    claim = queue.claim("home", "awake")
    assert claim is not None
    assert claim.run.checkpoint == {"weights": "first"}, "it goes on from there"
    for late in (
        lambda: queue.append(run.id, 1, [Event(stream="log", body={"line": "late"})]),
        lambda: queue.checkpoint(run.id, 1, {"weights": "late"}),
        lambda: queue.finish(run.id, 1, RunState.SUCCEEDED, settle=lambda _: Changes(add=(Site.new(name="late"),))),
    ):
        with pytest.raises(Fenced):
            late()
    assert queue.heartbeat("asleep", [(run.id, 1)]) == {run.id: "lost"}
    assert queue.heartbeat("impostor", [(run.id, 2)]) == {run.id: "lost"}
    assert catalog.find(Site) == []
    assert queue.finish(run.id, 2, RunState.SUCCEEDED).state is RunState.SUCCEEDED


def test_cancel_reaches_children_and_what_runs(queue: Queue) -> None:
    parent = submit(queue)
    assert queue.claim("home", "a") is not None
    child = submit(queue, parent=parent.id)
    stopping = queue.cancel(parent.id, "bob")
    assert stopping.state is RunState.STOPPING
    assert queue.cancel(parent.id).state is RunState.STOPPING
    assert queue.claim("home", "b") is None, "the child was cancelled before it began"
    assert queue.heartbeat("a", [(parent.id, 1), (child.id, 1)]) == {parent.id: "stop", child.id: "lost"}
    ended = queue.finish(parent.id, 1, RunState.FAILED, error={"message": "terminated"}, retry=True)
    assert ended.state is RunState.CANCELLED
    assert ended.error is not None
    assert ended.error["code"] == "run_cancelled"


def test_a_cancelled_run_takes_no_more_children(queue: Queue, catalog: Catalog) -> None:
    parent = submit(queue)
    queue.claim("home", "a")
    first = submit(queue, parent=parent.id)
    queue.cancel(parent.id)
    for _ in range(2):  # while its process has not heard of it yet, and after it ended
        with pytest.raises(Conflict, match="takes no more children"):
            submit(queue, parent=parent.id)
        queue.finish(parent.id, 1, RunState.CANCELLED)
    assert [run.id for run in catalog.find(Run, {"parent": parent.id})] == [first.id]
    with pytest.raises(NotFound):
        submit(queue, parent="run_none")


def test_a_run_that_ended_well_may_get_children(queue: Queue) -> None:
    parent = submit(queue)
    queue.claim("home", "a")
    queue.finish(parent.id, 1, RunState.SUCCEEDED)
    assert submit(queue, parent=parent.id).parent == parent.id


def test_no_child_slips_past_a_cancel(queue: Queue, catalog: Catalog) -> None:
    parent = submit(queue)
    queue.claim("home", "a")

    def bear(_: int) -> bool:
        try:
            submit(queue, parent=parent.id)
        except (Conflict, Busy):
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        born = [pool.submit(bear, i) for i in range(12)]
        time.sleep(0.03)
        queue.cancel(parent.id)
        assert sum(one.result() for one in born) == len(catalog.find(Run, {"parent": parent.id}))
    assert {run.state for run in catalog.find(Run, {"parent": parent.id})} <= {RunState.CANCELLED}


def test_listeners_see_every_move(queue: Queue, catalog: Catalog, clock: Clock) -> None:
    run = submit(queue)
    queue.claim("home", "a")
    queue.finish(run.id, 1, RunState.FAILED, retry=True)
    queue.claim("home", "a")
    clock.on(31)
    queue.claim("home", "b")
    queue.cancel(run.id)
    queue.finish(run.id, 3, RunState.CANCELLED)
    moves = [(e.body["state"], e.body["epoch"]) for e in catalog.series(run.id, streams=("state",))]
    assert moves == [
        ("queued", 0), ("running", 1), ("queued", 1), ("running", 2), ("running", 3), ("stopping", 3), ("cancelled", 3),
    ]  # fmt: skip


def test_what_nobody_will_end_expires(queue: Queue, clock: Clock, catalog: Catalog) -> None:
    lost, stopped, held, again = submit(queue, max_attempts=1), submit(queue), submit(queue), submit(queue)
    for _ in range(4):
        queue.claim("home", "a")
    queue.cancel(stopped.id)
    clock.on(20)
    queue.heartbeat("a", [(held.id, 1)])
    clock.on(11)
    assert [run.id for run in queue.expire()] == [again.id]  # which another agent may have
    assert [run.id for run in queue.expire()] == [again.id], "it waits, and the others have ended"
    assert catalog.get(Run, again.id).state is RunState.RUNNING
    failed = catalog.get(Run, lost.id)
    assert failed.state is RunState.FAILED
    assert failed.error is not None
    assert "agent a was not heard of for 30 s" in failed.error["message"]
    assert catalog.get(Run, stopped.id).state is RunState.CANCELLED
    assert catalog.get(Run, held.id).state is RunState.RUNNING


def test_settle_is_asked_again_when_somebody_was_faster(queue: Queue, catalog: Catalog) -> None:
    run = submit(queue)
    queue.claim("home", "a")
    asked: list[int] = []

    def settle(_: Run) -> Changes:
        asked.append(1)
        name = f"v{len(catalog.find(Site)) + 1}"
        if len(asked) == 1:
            catalog.add(Site.new(name=name))  # the other one, between looking and writing
        return Changes(add=(Site.new(name=name),))

    assert queue.finish(run.id, 1, RunState.SUCCEEDED, settle=settle).state is RunState.SUCCEEDED
    assert sorted(site.name for site in catalog.find(Site)) == ["v1", "v2"]


def test_a_claim_that_was_never_taken_goes_back(queue: Queue) -> None:
    submit(queue)
    claim = queue.claim("home", "a")
    assert claim is not None
    queue.give_back(claim.run)
    again = queue.claim("home", "b")
    assert again is not None
    assert (again.run.attempt, again.run.epoch) == (1, 2)


def test_retry_makes_a_new_run_of_an_ended_one(queue: Queue) -> None:
    run = submit(queue)
    with pytest.raises(Conflict, match="queued"):
        queue.retry(run.id)
    queue.cancel(run.id)
    again = queue.retry(run.id, "bob")
    assert again.id != run.id
    assert (again.spec, again.opens, again.flavour, again.by) == (run.spec, run.opens, run.flavour, "bob")


def test_an_end_must_be_an_end(queue: Queue) -> None:
    run = submit(queue)
    queue.claim("home", "a")
    with pytest.raises(Invalid, match="not as running"):
        queue.finish(run.id, 1, RunState.RUNNING)
