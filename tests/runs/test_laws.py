"""Laws of the engine under any order of claims, heartbeats, late messages, cancels and passing time (hypothesis)."""

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from leptonai.core import plugins
from leptonai.core.errors import Conflict
from leptonai.core.nouns import Event, Run, utcnow
from leptonai.core.stages import Plan
from leptonai.core.states import RunState
from leptonai.runs.queue import Asked, Queue

AGENTS = st.sampled_from(["a", "b", "c"])


class Engine(RuleBasedStateMachine):
    """Any agent may say anything about any epoch it ever held, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.catalog = plugins.catalog(f"sqlite:///{Path(self.folder.name) / 'c.sqlite'}")
        self.at = utcnow()
        self.queue = Queue(self.catalog, lease_seconds=10, now=self.now)
        self.held: list[tuple[str, str, int]] = []  # every lease there ever was: agent, run, epoch
        self.ends: dict[str, Run] = {}
        self.epochs: dict[str, int] = {}
        self.accepted: dict[str, list[int]] = {}

    def now(self) -> datetime:
        return self.at

    def teardown(self) -> None:
        self.catalog.close()  # type: ignore[attr-defined]
        self.folder.cleanup()

    @rule(attempts=st.integers(1, 3))
    def submit(self, attempts: int) -> None:
        self.queue.submit(Asked("train", max_attempts=attempts), Plan({}, ()))

    @rule(agent=AGENTS)
    def claim(self, agent: str) -> None:
        found = self.queue.claim("home", agent)
        if found is not None:
            assert found.run.epoch == self.epochs.get(found.run.id, 0) + 1
            assert found.run.id not in self.ends
            self.epochs[found.run.id] = found.run.epoch
            self.held.append((agent, found.run.id, found.run.epoch))

    @rule(seconds=st.sampled_from([1, 6, 11, 3600, -3600]))
    def time_passes(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        agent, id, epoch = data.draw(st.sampled_from(self.held))
        answer = self.queue.heartbeat(agent, [(id, epoch)])[id]
        if epoch != self.epochs[id] or id in self.ends:
            assert answer == "lost"

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        _, id, epoch = data.draw(st.sampled_from(self.held))
        try:
            self.queue.append(id, epoch, [Event(stream="log", body={"epoch": epoch})])
        except Conflict:
            return
        assert epoch == self.epochs[id]
        assert id not in self.ends
        self.accepted.setdefault(id, []).append(epoch)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), state=st.sampled_from(["succeeded", "failed", "cancelled"]), retry=st.booleans())
    def finish(self, data: st.DataObject, state: str, retry: bool) -> None:
        _, id, epoch = data.draw(st.sampled_from(self.held))
        before = self.ends.get(id)
        try:
            run = self.queue.finish(id, epoch, RunState(state), retry=retry)
        except Conflict:
            return
        assert epoch == self.epochs[id], "a stale attempt ended nothing"
        if before is not None:
            assert run == before

    @precondition(lambda self: self.epochs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.queue.cancel(data.draw(st.sampled_from(sorted(self.epochs))))

    @rule()
    def expire(self) -> None:
        self.queue.expire()

    @invariant()
    def what_ended_never_changes(self) -> None:
        for run in self.catalog.find(Run, limit=1000):
            if run.state.ended:
                assert self.ends.setdefault(run.id, run) == run
            else:
                assert run.id not in self.ends

    @invariant()
    def the_series_are_in_the_order_of_the_epochs(self) -> None:
        for id, epochs in self.accepted.items():
            found = [event.body["epoch"] for event in self.catalog.series(id, streams=("log",))]
            assert found == epochs == sorted(epochs)


TestEngine = Engine.TestCase
TestEngine.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
