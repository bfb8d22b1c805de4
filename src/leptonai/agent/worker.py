"""Works on Runs, one at a time: claims one, starts its process, watches it to its end, claims the next."""

import contextlib
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptonai.agent.sender import AT_ONCE, OUTPUT, deliver, event, lines, unsent
from leptonai.core.errors import Fenced, LeptonError, RunCancelled, RunFailed
from leptonai.core.nouns import Run
from leptonai.core.ports import Executor, Exit, Job
from leptonai.core.states import RunState
from leptonai.sdk.http import Http

WAIT_SECONDS = 20.0
POLL_SECONDS, LONGEST_POLL, POLL_SHARE = 0.02, 0.25, 0.02  # of a Run: each look takes its processors something
GRACE_SECONDS = 5.0
TELL_SECONDS = 60.0  # how long the end of a Run is told to a server that does not answer; then its lease runs out

_log = logging.getLogger(__name__)


@dataclass
class Held:
    """A Run that this agent holds a lease on, and what the server said of it since."""

    run: Run
    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)  # somebody cancelled it
    lost: threading.Event = field(default_factory=threading.Event)  # another attempt has it, or it ended

    @property
    def job(self) -> str:
        """The id of its process: another attempt at the same Run is another one."""
        return f"{self.run.id}-{self.run.epoch}"


class Holdings:
    """The Runs that the agent holds. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._lock = threading.Lock()

    def add(self, held: Held) -> None:
        """Begin to hold. An earlier attempt at the same Run that is still here is lost by that."""
        with self._lock:
            for earlier in self._held.values():
                if earlier.run.id == held.run.id:
                    earlier.lost.set()
            self._held[held.job] = held

    def drop(self, held: Held) -> None:
        """Hold no longer."""
        with self._lock:
            self._held.pop(held.job, None)

    def all(self) -> list[Held]:
        """Return what is held now, but for what is known to be lost."""
        with self._lock:
            return [held for held in self._held.values() if not held.lost.is_set()]


@dataclass
class Worker:
    """One slot of the agent."""

    site: str
    agent: str
    http: Http
    executor: Executor
    folder: Path  # in which each process gets a folder of its own
    holdings: Holdings
    stopping: threading.Event
    reached: Callable[[str | None], None] = lambda _: None  # told the store's URL that a claim names

    def run(self) -> None:
        """Work until the agent stops. A server that is away is asked again, ever more slowly."""
        pause = 0.1
        while not self.stopping.is_set():
            try:
                self._turn()
                pause = 0.1
            except LeptonError as error:
                _log.warning("no work: %s", error.message)
                self.stopping.wait(pause)
                pause = min(pause * 2, 5.0)

    def _turn(self) -> None:
        body = {"agent": self.agent, "wait_seconds": WAIT_SECONDS}
        claim = self.http.call("POST", f"/sites/{self.site}/claim", json=body, timeout=WAIT_SECONDS + 15)
        if claim is None:
            return
        run = Run.model_validate(claim["run"])
        held = Held(run, self.folder / f"{run.id}-{run.epoch}")
        self.reached(claim["store_url"])
        self.holdings.add(held)
        try:
            self._work(held, claim)
        finally:
            self.holdings.drop(held)
            shutil.rmtree(held.folder, ignore_errors=True)

    def _work(self, held: Held, claim: dict[str, Any]) -> None:
        run = held.run
        payload = {
            "run": claim["run"],
            "token": claim["token"],
            "host": self.http.base_url,
            "store_url": claim["store_url"],
        }
        try:
            held.folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            job = Job(
                held.job, "leptonai.agent.once:main", payload, held.folder, run.flavour, run.limits, workers=run.workers
            )
            self.executor.start(job)
        except (LeptonError, OSError) as error:
            words = error.message if isinstance(error, LeptonError) else f"its process could not be started: {error}"
            self._finish(held, RunState.FAILED, RunFailed(words).to_dict(), retry=True)
            return
        end = self._watch(held)
        if end is None or held.lost.is_set() or self.stopping.is_set():
            return  # nobody wants to hear of it, or `give_back` tells
        if end.code != 0:
            self._tail(held)
        # What the process told the server itself stands; this is for one that could not.
        if held.stop.is_set():
            self._finish(held, RunState.CANCELLED, RunCancelled("the run was cancelled").to_dict())
        else:
            self._finish(held, RunState.FAILED, RunFailed(_why(end)).to_dict(), retry=end.limit is None)

    def _watch(self, held: Held) -> Exit | None:
        """Return how the process ended; None when the agent stops."""
        asked, began = False, time.monotonic()
        while not self.stopping.is_set():
            end = self.executor.poll(held.job)
            if end is not None:
                return end
            if not asked and (held.lost.is_set() or held.stop.is_set()):
                asked = True
                self.executor.stop(held.job, 0.0 if held.lost.is_set() else GRACE_SECONDS)
            age = time.monotonic() - began
            self.stopping.wait(min(max(POLL_SECONDS, POLL_SHARE * age), LONGEST_POLL))
        return None

    def _tail(self, held: Held) -> None:
        """Send what the process printed and could not send itself."""
        if (held.folder / OUTPUT).exists():
            said = lines(unsent(held.folder)[1])
        else:  # an executor that works elsewhere
            said = lines(self.executor.logs(held.job).encode())
        for start in range(0, len(said), AT_ONCE):
            events = [event("log", {"line": line}) for line in said[start : start + AT_ONCE]]
            body = {"epoch": held.run.epoch, "events": events}
            with contextlib.suppress(LeptonError):
                self.http.call("POST", f"/runs/{held.run.id}/events", json=body)

    def _finish(self, held: Held, state: RunState, error: dict[str, Any] | None, *, retry: bool = False) -> None:
        body = {"epoch": held.run.epoch, "state": state.value, "error": error, "retry": retry}
        path = f"/runs/{held.run.id}/finish"
        answer = deliver(lambda: self.http.call("POST", path, json=body), time.monotonic() + TELL_SECONDS)
        if answer is Fenced:
            _log.info("run %s is no longer ours", held.run.id)


def give_back(http: Http, held: Held) -> None:
    """Tell the server that the agent stops, so that the Run is taken up again at once; one try, for time is short."""
    error = RunFailed("its agent was stopped").to_dict()
    body = {"epoch": held.run.epoch, "state": RunState.FAILED.value, "error": error, "retry": True}
    with contextlib.suppress(LeptonError):
        http.call("POST", f"/runs/{held.run.id}/finish", json=body, timeout=1.0)


def _why(end: Exit) -> str:
    if end.limit is not None:
        return f"its process was ended: {end.limit}"
    if end.code < 0:
        try:
            name = signal.Signals(-end.code).name
        except ValueError:
            name = f"signal {-end.code}"
        hint = " (often: the machine ran out of memory)" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with code {end.code} before it was done"
