"""Carries out how many workers the versions of a Site have: looks at their queues, starts workers, and sends some away.

What is decided is in `serving.scaling`. The planes are told which workers there are: one that comes when it has loaded the version
and computed a first batch, so that no caller waits for that; one that goes before it is sent away, so that whatever it was
given is answered. What the planes count comes over their board (`serving.plane.board`), what a worker is at from its pulse.
"""

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from leptonai.agent.native_process import NativeProcess
from leptonai.agent.plane_process import PlaneProcess
from leptonai.core.errors import LeptonError
from leptonai.core.replicas import Replicas, Scaled
from leptonai.serving import scaling
from leptonai.serving.pulse import Reading
from leptonai.serving.scaling import Room, Scaling, Sight
from leptonai.serving.tally import BOUNDS

LOOK_SECONDS = 0.25
WINDOW_SECONDS = 2.0  # of what was seen that a decision is made by
FAILED_SECONDS = 30.0  # after a worker could not be started, before another one is tried
CHANGES = 100  # that are kept until the server was told

_log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What is asked for a version: the range, and the services that it answers for."""

    replicas: Replicas
    services: tuple[str, ...]


class Change(NamedTuple):
    """One change of a number, for people to read."""

    service: str
    text: str
    before: int
    after: int


class Workers(Protocol):
    """What holds the workers, see `agent.natives`."""

    def workers(self) -> Mapping[str, NativeProcess]:
        """Those of each version that runs."""


class Scaler:
    """One thread, while some version has a range of workers."""

    def __init__(
        self,
        natives: Workers,
        planes: Callable[[], Sequence[PlaneProcess]],
        notes: Callable[[], Sequence[Mapping[str, Any]]],
        spare: Callable[[], int | None],
        stopping: threading.Event,
    ):
        """`notes`: what the planes last noted of their counts. `spare`: bytes of the budget that models leave; None: any number."""
        self._natives = natives
        self._planes = planes
        self._notes = notes
        self._spare = spare
        self._stopping = stopping
        self._lock = threading.Lock()  # of what follows, as far as others ask for it
        self._asked: Mapping[str, Asked] = {}
        self._held: dict[str, _Held] = {}
        self._changes: deque[tuple[int, Change]] = deque(maxlen=CHANGES)
        self._scaled: dict[str, Scaled] = {}
        self._news = 0
        self._thread: threading.Thread | None = None

    def ask(self, asked: Mapping[str, Asked]) -> None:
        """Take what is asked for versions, by their ids; of others the number stays what they say themselves."""
        with self._lock:
            self._asked = dict(asked)
            if asked and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="replicas", daemon=True)
                self._thread.start()

    def first(self, id: str) -> int | None:
        """Return with how many a version is to begin: as many as the one has whose place it takes; None: as it says itself."""
        with self._lock:
            asked = self._asked.get(id)
            if asked is None:
                return None
            services = set(asked.services)
            same = [
                held.scaling.wanted
                for other, held in list(self._held.items())
                if other in self._asked and services & set(self._asked[other].services)
            ]
            return min(asked.replicas.max, max([asked.replicas.min, *same]))

    @property
    def said(self) -> tuple[int, dict[str, Scaled], list[Change]]:
        """Return a number that is another one when there is news, how many workers services have, and what changed last."""
        with self._lock:
            return self._news, dict(self._scaled), [change for _, change in self._changes]

    def heard(self, news: int) -> None:
        """Take note that the server was told what `said` returned with this number."""
        with self._lock:
            while self._changes and self._changes[0][0] <= news:
                self._changes.popleft()

    # ------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look(time.monotonic())
            except LeptonError as error:
                _log.warning("replicas: %s", error.message)

    def look(self, now: float) -> None:
        """See to all versions once."""
        with self._lock:
            asked = self._asked
        notes, running = self._notes(), self._natives.workers()
        for id in self._held.keys() - running.keys():
            del self._held[id]
        for id, native in running.items():
            wanted = asked.get(id)
            held = self._held.get(id)
            if held is not None and held.native is not native:
                held = None  # it left memory, and came back
            if wanted is None and held is None:
                continue  # nobody ever asked for another number than its own
            if held is None:
                held = self._held[id] = _Held(native, Scaling(wanted.replicas, native.count, now))  # type: ignore[union-attr]
            self._see_to(held, wanted, notes, now)
            self._tell(held)
        self._publish(asked)

    def _see_to(self, held: "_Held", asked: Asked | None, notes: Sequence[Mapping[str, Any]], now: float) -> None:
        native = held.native
        reason = native.failure()
        if reason:
            held.failed, held.why = now, f"another one could not be started: {reason}"
            held.scaling.wanted = max(1, native.count)
            self._note(asked, held.scaling.wanted + 1, held.scaling.wanted, held.why)
        if asked is None:
            held.scaling.wanted = native.work.workers
        else:
            held.scaling.ask(asked.replicas, now)
            seen = held.sight(notes, now)
            before = held.scaling.wanted
            plan = held.scaling.look(now, seen, self._room(held, asked, now))
            if plan.why:
                held.why = plan.why
                held.forget()
                self._note(asked, before, plan.wanted, plan.why)
                _log.info("model %s/%s: %s", native.model.name, native.model.version, plan.why)
        if native.count != held.scaling.wanted:
            native.resize(held.scaling.wanted)

    def _room(self, held: "_Held", asked: Asked, now: float) -> Room:
        if now - held.failed < FAILED_SECONDS:
            return Room(held.scaling.wanted, held.why)
        if held.native.elsewhere:  # the cluster says so where it has no room
            return Room(asked.replicas.max)
        spare = self._spare()
        every = sum(reading.rss for one in self._held.values() for reading in one.native.readings().values())
        free = _available() if spare is None else min(_available(), max(0, spare - every))
        return scaling.room(
            asked.replicas.max, held.scaling.wanted, len(os.sched_getaffinity(0)), held.cores, free, held.size
        )

    def _tell(self, held: "_Held") -> None:
        """Tell the planes which workers there are; when all know it, those may leave that are there no more."""
        native, id = held.native, held.native.model.id
        numbers, known = native.numbers, True
        for plane in self._planes():
            if id in plane.models:
                try:
                    plane.crew(id, numbers, held.scaling.wanted)
                except LeptonError:
                    known = known and not plane.alive  # one that died is started again, and told then
        if known:
            native.let_go()

    def _note(self, asked: Asked | None, before: int, after: int, text: str) -> None:
        with self._lock:
            self._news += 1
            for service in () if asked is None else asked.services:
                self._changes.append((self._news, Change(service, text, before, after)))

    def _publish(self, asked: Mapping[str, Asked]) -> None:
        found = {
            service: Scaled(
                wanted=held.scaling.wanted, ready=held.native.ready, why=(held.scaling.stuck or held.why)[:500]
            )
            for id, held in self._held.items()
            if id in asked
            for service in asked[id].services
        }
        with self._lock:
            if found != self._scaled:
                self._scaled = found
                self._news += 1


class _Held:
    """What is known of one version's workers."""

    def __init__(self, native: NativeProcess, state: Scaling):
        self.native = native
        self.scaling = state
        self.why = ""  # there are as many as there are
        self.failed = float("-inf")  # when one could not be started
        self.cores = 0.0  # that one uses while it computes: the most that was seen
        self.size = int(1.5 * native.model.bytes)  # bytes of memory that one takes
        self._counts: dict[int, Counter[int]] = {}  # how long requests waited, as each plane counted last
        self._before: dict[int, Reading] = {}
        self._at = 0.0
        self._window: deque[_Moment] = deque()

    def forget(self) -> None:
        """Begin to look anew: what was seen is of another number of workers."""
        self._window.clear()

    def sight(self, notes: Sequence[Mapping[str, Any]], now: float) -> Sight:
        """Return what is seen now, and was within the window."""
        said = {note["process"]["slot"]: note["queues"].get(self.native.model.id) for note in notes if "queues" in note}
        new: Counter[int] = Counter()
        waiting: Counter[int] = Counter()
        streams = 0
        for slot, queue in said.items():
            if queue is None:
                continue
            counts, before = Counter(dict(queue["waits"])), self._counts.get(slot, Counter())
            new += counts - before if counts.total() >= before.total() else counts  # another process, or loaded anew
            self._counts[slot] = counts
            waiting += Counter(dict(queue["waiting"]))
            streams += queue["streams"]
        self._window.append(self._took(new, now))
        while len(self._window) > 1 and now - self._window[0].time > WINDOW_SECONDS:
            self._window.popleft()
        seconds = sum(moment.seconds for moment in self._window)
        busy = sum(moment.busy for moment in self._window) / seconds if seconds else 0.0
        waits = sum((moment.waits for moment in self._window), waiting)
        listed = [waits[place] for place in range(len(BOUNDS) + 1)]
        return Sight(self.native.ready, busy, scaling.quantile(listed, 0.9), waiting.total(), streams)

    def _took(self, waits: Counter[int], now: float) -> "_Moment":
        """Return what happened since the look before."""
        found = self.native.readings()
        seconds, busy, cpu = now - self._at if self._at else 0.0, 0.0, 0.0
        for number, reading in found.items():
            self.size = max(self.size, reading.rss)
            before = self._before.get(number)
            if before is not None and reading.done >= before.done:
                busy += min(seconds, max(0.0, reading.busy_until(now) - before.busy_until(self._at)))
                cpu += max(0.0, reading.cpu - before.cpu)
        self._before, self._at = found, now
        moment = _Moment(now, seconds, busy, cpu, waits)
        window = [*self._window, moment]
        busy, cpu = sum(one.busy for one in window), sum(one.cpu for one in window)
        if busy > WINDOW_SECONDS / 4:
            self.cores = max(self.cores, cpu / busy)
        return moment


class _Moment(NamedTuple):
    """What was seen between two looks."""

    time: float
    seconds: float
    busy: float  # seconds of all workers together
    cpu: float
    waits: Counter[int]


def _available() -> int:
    """Return how many bytes of memory the machine could still give."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62
