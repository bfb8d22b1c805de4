"""The run engine: submit, claim, heartbeat, append, checkpoint, finish, retry, cancel, expire.

Every move is a compare-and-set on the Run's revision (`Catalog.change`), legal by `core.states.RUN_MOVES`, and, where it
comes from an agent, under the epoch of its lease. So two servers and any number of agents may call at once.
"""

import hashlib
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from leptonai.core.errors import Busy, Conflict, Fenced, Invalid, NotFound, RunCancelled, RunFailed, Stale
from leptonai.core.nouns import Audit, Event, Limits, Receipt, Record, Run, utcnow
from leptonai.core.ports import Catalog
from leptonai.core.stages import Changes, Plan
from leptonai.core.states import RUN_MOVES, RunState

_STALE = 6  # a lease is renewed once the sixth part of it is over: what is written costs more than what is read
_HELD = (RunState.RUNNING.value, RunState.STOPPING.value)  # by an agent
_PAGE = 100  # records
_TURNS = 40  # how often a compare-and-set is tried before the caller is told that the server is busy


class Claim(NamedTuple):
    """A Run that was given to an agent, and the token its process holds."""

    run: Run
    token: str


class Asked(NamedTuple):
    """What somebody asks for beside the plan of its stage."""

    stage: str
    by: str = ""
    name: str = ""
    site: str = "home"
    parent: str | None = None
    limits: Limits = Limits()
    max_attempts: int = 3


def digest(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Queue:
    """The queue of Runs in a catalog. Thread-safe; holds no state of its own."""

    def __init__(self, catalog: Catalog, *, lease_seconds: float = 30.0, now: Callable[[], datetime] = utcnow):
        self._catalog = catalog
        self._lease = lease_seconds
        self._now = now

    # ----------------------------------------------------------------------------------------------- by people

    def submit(self, asked: Asked, plan: Plan, receipt: Callable[[Run], Receipt] | None = None) -> Run:
        """Queue a Run. A `receipt` is added in the same transaction, so that a repeated request has one effect.

        Raises `NotFound` or `Conflict` when there is no such parent, or it was cancelled.
        """
        run = Run.new(
            name=asked.name or plan.name,
            stage=asked.stage,
            spec=plan.spec,
            site=asked.site,
            parent=asked.parent,
            flavour=plan.flavour,
            workers=plan.workers,
            limits=asked.limits,
            opens=plan.opens,
            max_attempts=asked.max_attempts,
            by=asked.by,
        )
        more: tuple[Record, ...] = (receipt(run),) if receipt is not None else ()
        added = (run, _audit("run.submit", run.id, asked.by, stage=asked.stage), *more)
        for turn in range(_TURNS):
            try:
                # A parent that is alive is written too: it cannot be cancelled between this look and the child's birth.
                self._catalog.change(*self._living(asked.parent), add=added)
            except Stale:
                _pause(turn)
                continue
            return run
        raise Busy(f"run {asked.parent} changes too fast: try again", retry_after=1.0)

    def _living(self, parent: str | None) -> list[Run]:
        if parent is None:
            return []
        found = self._catalog.get(Run, parent)
        if found.state in {RunState.STOPPING, RunState.CANCELLED}:
            raise Conflict(f"run {parent} was cancelled and takes no more children: submit this one without a parent")
        return [] if found.state.ended else [found]

    def retry(self, id: str, by: str = "") -> Run:
        """Queue a new Run with the same spec. Raises `Conflict` when the first has not ended."""
        old = self._catalog.get(Run, id)
        if not old.state.ended:
            raise Conflict(f"run {id} is {old.state}: wait until it has ended, or cancel it first")
        asked = Asked(old.stage, by or old.by, old.name, old.site, old.parent, old.limits, old.max_attempts)
        return self.submit(asked, Plan(old.spec, old.opens, old.flavour, old.name, old.workers))

    def cancel(self, id: str, by: str = "") -> Run:
        """Cancel a Run and its children: at once where it waits, else its agent is told to stop it."""

        def move(run: Run) -> Run | None:
            if run.state.ended or run.state is RunState.STOPPING:
                return None
            if run.state is RunState.QUEUED:
                return self._ended(
                    run, RunState.CANCELLED, error=RunCancelled("the run was cancelled before it began").to_dict()
                )
            return _moved(run, RunState.STOPPING)

        cancelled = self._change(id, move, lambda run: [_audit("run.cancel", id, by, state=str(run.state))])
        for child in self._children(id):  # after it: from now on it takes no more
            self.cancel(child.id, by)
        return cancelled

    def _children(self, id: str) -> list[Run]:
        found: list[Run] = []
        after = None
        while page := self._catalog.find(Run, {"parent": id}, after=after):
            found += [run for run in page if not run.state.ended]
            after = page[-1].id
        return found

    # ----------------------------------------------------------------------------------------------- by agents

    def claim(self, site: str, agent: str) -> Claim | None:
        """Give the agent the oldest Run of its site that waits, or whose lease ran out; None when there is none."""
        secret = secrets.token_urlsafe(32)
        run = self._catalog.claim(site, agent, self._lease, self._now(), digest(secret))
        return None if run is None else Claim(run, f"lrt_{run.id}~{secret}")

    def give_back(self, run: Run) -> None:
        """Put a Run that was claimed, and never reached its agent, back into the queue; the attempt does not count."""
        waiting = _moved(run, RunState.QUEUED)
        fields = {"attempt": run.attempt - 1, "agent": None, "lease_until": None, "token": None}
        self._catalog.change(waiting.model_copy(update=fields))

    def heartbeat(self, agent: str, holds: Sequence[tuple[str, int]]) -> dict[str, str]:
        """Renew the leases of an agent's Runs; answer for each: "ok", "stop" (end it), or "lost" (no longer its own)."""
        answers: dict[str, str] = {}
        for id, epoch in holds:
            try:
                run = self._renew(id, epoch, agent)
                answers[id] = "stop" if run.state is RunState.STOPPING else "ok"
            except (Conflict, NotFound):
                answers[id] = "lost"
        return answers

    def _renew(self, id: str, epoch: int, agent: str) -> Run:
        until = self._now() + timedelta(seconds=self._lease)

        def move(run: Run) -> Run | None:
            if run.agent != agent:
                raise Fenced(f"run {id} is with agent {run.agent}, not with {agent}")
            held = self._held(run, epoch)
            fresh = held.lease_until is not None and until - held.lease_until < timedelta(seconds=self._lease / _STALE)
            return None if fresh else held.model_copy(update={"lease_until": until})

        return self._change(id, move)

    def append(self, id: str, epoch: int, events: Sequence[Event]) -> int:
        """Add to a Run's series. Raises `Fenced` when the attempt lost its lease."""
        return self._catalog.append(id, epoch, events)

    def checkpoint(self, id: str, epoch: int, files: Mapping[str, str]) -> Run:
        """Remember what the Run saved, and what it saved before; what it saved earlier is forgotten only now. Raises `Fenced`."""

        def move(run: Run) -> Run:
            saved = {"checkpoint": dict(files)}
            if run.checkpoint != saved["checkpoint"]:  # a request that was repeated saves nothing new
                return self._held(run, epoch).model_copy(update={**saved, "earlier": run.checkpoint})
            return self._held(run, epoch)

        return self._change(id, move)

    def finish(
        self,
        id: str,
        epoch: int,
        state: RunState,
        *,
        result: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        retry: bool = False,
        settle: Callable[[Run], Changes] | None = None,
    ) -> Run:
        """End a Run, under the epoch of its lease; the same again for the same epoch answers the same.

        `failed` with `retry` goes back to the queue while attempts are left. What `settle` wants written is written in the
        transaction that ends the Run; it is asked again when somebody else was faster. Raises `Fenced`.
        """
        if state not in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}:
            raise Invalid(f"a run ends as succeeded, failed or cancelled, not as {state}")
        for turn in range(_TURNS):
            run = self._catalog.get(Run, id)
            if run.epoch == epoch and (run.state.ended or run.state is RunState.QUEUED):
                return run  # said before
            run = self._held(run, epoch)
            changes = Changes()
            if state is RunState.FAILED and retry and run.attempt < run.max_attempts and run.state is RunState.RUNNING:
                ended = _moved(run, RunState.QUEUED).model_copy(
                    update={"lease_until": None, "agent": None, "error": error}
                )
            else:
                if state is RunState.FAILED and run.state is RunState.STOPPING:
                    state, error = RunState.CANCELLED, RunCancelled("the run was cancelled").to_dict()
                ended = self._ended(run, state, result=result, error=error)
                if state is RunState.SUCCEEDED and settle is not None:
                    changes = settle(ended)
            try:
                self._catalog.change(ended, *changes.change, add=changes.add, drop=changes.drop)
            except Conflict:
                _pause(turn)
                continue
            return self._catalog.get(Run, id)
        raise Busy(f"run {id} changes too fast: try again", retry_after=1.0)

    def expire(self) -> list[Run]:
        """End what nobody will end: Runs whose lease ran out with no attempt left, or while they were stopping.

        Returns, as they were, the others whose lease ran out: another agent of their site may have them.
        """
        now, waiting, after, more = self._now(), list[Run](), None, True
        while more:
            page = self._catalog.find(Run, {"state": _HELD}, limit=_PAGE, after=after)
            lost = [run for run in page if run.lease_until is not None and run.lease_until < now]
            waiting += [run for run in lost if not self._end_lost(run)]
            after, more = page[-1].id if page else None, len(page) == _PAGE
        return waiting

    def _end_lost(self, run: Run) -> bool:
        if run.state is RunState.STOPPING:
            to, error = RunState.CANCELLED, RunCancelled("the run was cancelled; its agent did not answer").to_dict()
        elif run.attempt >= run.max_attempts:
            words = f"agent {run.agent} was not heard of for {self._lease:g} s, and all {run.max_attempts} attempts are used up"
            to, error = RunState.FAILED, RunFailed(words).to_dict()
        else:
            return False
        try:
            self._catalog.change(self._ended(run, to, error=error))
        except Conflict:
            return False  # its agent came back, or another server was faster
        return True

    # ----------------------------------------------------------------------------------------------- inside

    def _held(self, run: Run, epoch: int) -> Run:
        if run.epoch != epoch or run.state not in {RunState.RUNNING, RunState.STOPPING}:
            raise Fenced(f"run {run.id} is no longer this attempt's: it has ended, or another attempt has it")
        return run

    def _ended(
        self, run: Run, to: RunState, *, result: dict[str, Any] | None = None, error: dict[str, Any] | None = None
    ) -> Run:
        fields = {"ended": self._now(), "lease_until": None, "result": result, "error": error}
        return _moved(run, to).model_copy(update=fields)

    def _change(
        self, id: str, move: Callable[[Run], Run | None], more: Callable[[Run], list[Record]] = lambda _: []
    ) -> Run:
        for turn in range(_TURNS):
            run = self._catalog.get(Run, id)
            moved = move(run)
            if moved is None:
                return run
            try:
                self._catalog.change(moved, add=more(moved))
            except Stale:
                _pause(turn)
                continue
            return moved.model_copy(update={"rev": moved.rev + 1})
        raise Busy(f"run {id} changes too fast: try again", retry_after=1.0)


def _moved(run: Run, to: RunState) -> Run:
    if to not in RUN_MOVES[run.state]:
        raise Conflict(f"run {run.id} is {run.state} and cannot become {to}")
    return run.model_copy(update={"state": to})


def _audit(action: str, subject: str, by: str, **facts: Any) -> Audit:
    return Audit.new(name=action, subject=subject, by=by, facts=facts)


def _pause(turn: int) -> None:
    time.sleep(random.uniform(0, min(0.002 * 2**turn, 0.1)))  # noqa: S311  no secret: it spreads callers out
