"""What a call costs does not grow with what is kept: counted in steps of SQLite's machine, which no busy computer blurs."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from leptonai.adapters.catalog.sql import SqlCatalog
from leptonai.core.nouns import Event, Run, utcnow
from leptonai.core.stages import Plan
from leptonai.core.states import RunState
from leptonai.runs.queue import Asked, Queue
from leptonai.testing.catalog import run

STATES = [RunState.QUEUED, RunState.SUCCEEDED, RunState.FAILED, RunState.RUNNING]
STEP = 10  # how many instructions one count stands for


class Counted:
    """A catalog of so many Runs, and how much work each call on it was."""

    def __init__(self, file: Path, size: int):
        self.steps = 0
        self.catalog = SqlCatalog(f"sqlite:///{file}")
        for at in range(0, size, 5000):
            self.catalog.add(*[self._record(i) for i in range(at, min(at + 5000, size))])
        self.ids = [record.id for record in self.catalog.find(Run, limit=200)]
        event.listen(self.catalog._engine, "checkout", self._watch)

    def _record(self, i: int) -> Run:
        state = STATES[i % 4]
        lease = utcnow() + timedelta(hours=1) if state is RunState.RUNNING else None
        # Many in each stage, many in each state; but no export ever failed.
        stage = ("train", "export")[i // 4 % 2] if state is not RunState.FAILED else "train"
        where = {"stage": stage, "name": f"n{i // 100}", "parent": f"p{i // 20}"}
        return run(state=state, lease_until=lease, **where)

    def _watch(self, connection: object, *_: object) -> None:
        connection.set_progress_handler(self._step, STEP)  # type: ignore[attr-defined]

    def _step(self) -> int:
        self.steps += 1
        return 0

    def cost(self, call: Callable[["Counted"], object]) -> int:
        self.steps = 0
        call(self)
        return self.steps


CALLS: dict[str, Callable[[Counted], object]] = {
    "get": lambda c: c.catalog.get(Run, c.ids[7]),
    "list": lambda c: c.catalog.find(Run, limit=50),
    "list a late page": lambda c: c.catalog.find(Run, after=c.ids[150], limit=50),
    "list by state": lambda c: c.catalog.find(Run, {"state": "queued"}, limit=50),
    "list by states": lambda c: c.catalog.find(Run, {"state": ("queued", "running", "stopping")}, limit=50),
    "list by a state that none has": lambda c: c.catalog.find(Run, {"state": "stopping"}, limit=50),
    "list by stage and state": lambda c: c.catalog.find(Run, {"stage": "export", "state": "failed"}, limit=50),
    "list by site and state": lambda c: c.catalog.find(Run, {"site": "home", "state": "queued"}, limit=50),
    "list by site and stage": lambda c: c.catalog.find(Run, {"site": "home", "stage": "none"}, limit=50),
    "list by name": lambda c: c.catalog.find(Run, {"name": "n3"}, limit=50),
    "list by name and all": lambda c: c.catalog.find(
        Run, {"name": "n3", "stage": "train", "state": "cancelled", "site": "home"}, limit=50
    ),
    "list by parent and all": lambda c: c.catalog.find(
        Run, {"parent": "p3", "stage": "train", "state": "cancelled", "site": "home"}, limit=50
    ),
    "claim": lambda c: c.catalog.claim("home", "a", 3600, utcnow(), "t"),
    "submit": lambda c: Queue(c.catalog).submit(Asked("train"), Plan({}, ())),
    "append": lambda c: (
        c.catalog.append(c.ids[0], 0, [Event(stream="log", body={"line": "x"})])
        if not c.catalog.get(Run, c.ids[0]).state.ended
        else None
    ),
    "series": lambda c: c.catalog.series(c.ids[3], limit=10),
}


def check(folder: Path, sizes: tuple[int, int]) -> None:
    small, large = (Counted(folder / f"{size}.sqlite", size) for size in sizes)
    costs = {name: (small.cost(call), large.cost(call)) for name, call in CALLS.items()}
    for catalog in (small.catalog, large.catalog):
        catalog.close()
    assert {name: cost for name, cost in costs.items() if cost[1] > 2 * cost[0] + 50 // STEP} == {}, costs


def test_calls_cost_the_same_among_many(tmp_path: Path) -> None:
    check(tmp_path, (1_000, 8_000))


@pytest.mark.slow
def test_calls_cost_the_same_among_a_hundred_thousand(tmp_path: Path) -> None:
    check(tmp_path, (1_000, 100_000))
