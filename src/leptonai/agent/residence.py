"""Which Models are in memory in the serving processes of a Site, and how they get there.

A plane is several processes (`agent.planes`); one that dies is started again on the same socket and given everything that
is in memory, while the others go on. What does not fit into the budget stays away until somebody calls (`agent.cache` says what
leaves for it); the planes hold the call meanwhile. A Model without an ONNX file is computed in a process of its own.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from leptonai.agent.cache import Cache, Full
from leptonai.agent.crashes import Crashes, Deaths
from leptonai.agent.demand import Demand
from leptonai.agent.keys import Table
from leptonai.agent.natives import Natives
from leptonai.agent.plane_process import PlaneProcess
from leptonai.agent.planes import Planes, together
from leptonai.agent.races import Races
from leptonai.agent.resident_file import ResidentFile, budget
from leptonai.agent.scaler import Scaler
from leptonai.agent.table import Told
from leptonai.core import settings
from leptonai.core.errors import Invalid, LeptonError, Unavailable
from leptonai.core.nouns import Model
from leptonai.core.ports import Executor, Store
from leptonai.serving.table import Line

CRASHES = 2  # of the plane, while it loads one version: then that version is at fault
PATIENCE = 20.0  # seconds for planes to be started again, while callers wait for a version
PAUSE = 0.05  # between two looks
REST_SECONDS = 0.5  # between two looks for what nobody calls
TRIES = 3  # to bring a model while planes come and go

_ONNX = "model.onnx"

_log = logging.getLogger(__name__)


class Residence:
    """The planes of one Site and what is loaded in them.

    Two threads load: that of the tick, and that of `Demand`. What they share is guarded by a lock that nobody holds while
    something is loaded.
    """

    def __init__(
        self,
        blobs: Callable[[], Store],
        executor: Executor,
        home: Path,
        stopping: threading.Event,
        lost: Callable[[str, str], None],
    ):
        """`lost` is called with the id of a Model that answered and can be loaded no more, and with the reason; what
        `publish` is told next must not name it.
        """
        self._blobs = blobs
        self._home = home
        self._stopping = stopping
        self._lost = lost
        self._planes: Planes | None = None
        self._keys: Table | None = None  # None: the server did not say yet
        self._admitting = threading.Lock()  # a plane is told either by `admit` or when it joins, and misses no table
        self._lock = threading.RLock()  # of what follows
        self._file = ResidentFile(home / "resident.json")
        self._warm = self._file.warm  # what was in memory before the agent began, used last at the end
        self._cache = Cache(budget(), self._file.costs)
        self._table = Told(self._cache, lambda: self.alive, self._file.unloaded)
        self._races = Races(home, int(settings.number("planes")))
        self._natives = Natives(executor, home, blobs)
        self.scaler = Scaler(self._natives, lambda: self.alive, lambda: self.notes, self._cache.spare, stopping)
        self._natives.first = self.scaler.first
        self._demand = Demand(self)
        self._deaths = Deaths()
        self._crashes = Crashes()
        self._rested = 0.0
        self.port = 0  # where the planes answer, or did last

    @property
    def url(self) -> str | None:
        """Where the plane answers; None while there is none."""
        made = self._planes
        return None if made is None else f"http://127.0.0.1:{made.port}"

    @property
    def grpc(self) -> str | None:
        """Where it answers gRPC, as gRPC's clients take it; None where it does not."""
        made = self._planes
        return None if made is None or made.grpc_port is None else f"127.0.0.1:{made.grpc_port}"

    @property
    def alive(self) -> list[PlaneProcess]:
        """The planes that run now."""
        made = self._planes
        return [] if made is None else made.alive

    @property
    def open(self) -> bool:
        """Whether there are planes."""
        return self._planes is not None

    @property
    def admitting(self) -> bool:
        """Whether the server said which keys there are; no plane answers before it knows whom."""
        return self._keys is not None

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What the planes last noted of their counts, see `serving.plane.metrics`."""
        return [] if self._planes is None else self._planes.notes()

    @property
    def absent(self) -> tuple[int, dict[str, str]] | None:
        """Which services' models are not in memory, and why, with a number that is another one when that changed; None while
        there are no planes.
        """
        with self._lock:
            return None if self._planes is None else self._table.away()

    @property
    def deaths(self) -> int:
        """How many planes died since the agent began."""
        return self._deaths.count

    def admit(self, keys: Table) -> None:
        """Tell the planes which keys may call. Called by another thread, which never waits for a version that is loaded."""
        with self._admitting:
            self._keys = keys
            if self._planes is not None:
                with contextlib.suppress(Unavailable):  # one that died is started again, and told then
                    self._planes.each(lambda plane: plane.keys(keys))

    def know(self, *models: Model) -> None:
        """Say what Models the lines of `publish` may name without `load`: what answered before the agent began."""
        self._table.models |= {model.id: model for model in models}

    def load(self, model: Model) -> None:
        """Load a version beside what answers. Raises `Invalid` when it cannot be, or when a plane dies of it."""
        self.know(model)
        for _ in range(CRASHES):
            planes = self.ensure()
            try:
                self.bring(model)
                return
            except Unavailable:
                if not planes.dead:
                    raise
        self.ensure()
        raise Invalid("it cannot be loaded: the serving plane died of it, twice")

    def bring(self, model: Model) -> None:
        """Load a version into the planes that run, in place of what was used least recently. Raises `Full` when there is no
        room for it, `Unavailable` when a plane is gone, `Invalid` with the reason why it cannot be loaded.
        """
        planes = self._planes
        if planes is None or planes.dead:
            raise Unavailable("the serving plane is being started again: try again", retry_after=1.0)
        with self._lock:
            many = len(planes.members)
            guess = self._cache.cost(model.id, model.bytes, many)
            if model.id not in self._cache:
                self._evict(self._cache.room(guess, keep=self._table.kept()))
        grown = 0
        for _ in range(TRIES):  # a plane may join meanwhile
            try:
                grown = max(grown, sum(self._give(model, planes.each)))
            except BaseException:
                with self._lock:
                    if model.id not in self._cache:
                        self._table.tell(free=[model.id])
                raise
            with self._lock:
                if all(model.id in plane.models for plane in planes.alive):
                    if model.id not in self._cache:
                        self._cache.add(model.id, time.monotonic(), max(grown, model.bytes * many))
                        self._table.idle -= self._table.users.get(model.id, set())
                        with contextlib.suppress(Full):  # it took more than was guessed
                            self._evict(self._cache.room(0, 0, self._table.kept() | {model.id}))
                    return
        raise Unavailable("serving planes are being started again: try again", retry_after=1.0)

    def publish(self, lines: Sequence[Line]) -> None:
        """Have requests go as the table says; only what is new in it is sent. The planes free what is in it no more."""
        with self._lock:
            changed, gone, left = self._table.take(lines)
            if not changed and not gone:
                return
            for id in left:
                self._cache.drop(id)
                for plane in self.alive:
                    plane.models.discard(id)
            self._natives.only(self._table.users)
            if self._planes is None:
                self._choose()
            else:
                self._table.push((line.service for line in changed), gone)
                for line in changed:  # what is pinned is to be there; and nothing can be tried beside what is not
                    if (line.pinned or len(line.variants) > 1) and self._table.flagged(line).absent:
                        self._demand.ask("want", line.service)

    def want(self, op: str, service: str) -> None:
        """Do what a plane asks for: load the model of a service that is called, or what a caller wants of it. By `Demand`."""
        with self._lock:
            line = self._table.lines.get(service)
            if op == "unload" and not (line is not None and line.pinned):
                self._table.unloaded.add(service)
                ids = self._table.lines[service].models if service in self._table.lines else ()
                self._evict([id for id in ids if id in self._cache and self._table.users[id] <= self._table.unloaded])
            elif op == "load":
                self._table.unloaded.discard(service)
            models = [] if line is None else [self._table.models[id] for id in line.models if id not in self._cache]
            if line is None or not models or service in self._table.unloaded:
                self._table.push([service], force=True)
                return
        try:
            for model in models:
                self._bring_patiently(model)
        except LeptonError as error:
            _log.warning("service %s: %s", service, error.message)
            with self._lock:
                for plane in self.alive:
                    with contextlib.suppress(LeptonError):
                        plane.refuse(service, f"service {service} cannot be loaded: {error.message}")
            return
        with self._lock:
            self._table.push({user for model in models for user in self._table.users.get(model.id, ())} | {service})

    def _bring_patiently(self, model: Model) -> None:
        """Bring a version that callers wait for, also while a plane is being started again."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return self.bring(model)
            except Unavailable:
                if time.monotonic() > until or self._stopping.wait(PAUSE):
                    raise

    def touch(self, ids: Iterable[str]) -> None:
        """Note which models were used just now."""
        with self._lock:
            self._cache.touch(ids, time.monotonic())

    def _rest(self) -> None:
        """Have models leave memory that nobody used for as long as all their services allow."""
        now = time.monotonic()
        with self._lock:
            if now - self._rested < REST_SECONDS or not (shortest := self._table.shortest):
                return
            self._rested = now
            going = [
                id for id in self._cache.older(now - shortest) if self._table.rests(id, now - self._cache.since(id))
            ]
            if going:
                going = [id for id in going if id not in self._table.kept()]
                self._table.idle |= {service for id in going for service in self._table.users[id]}
                self._evict(going)

    def ensure(self) -> Planes:
        """Return planes that all run; a new one is given everything that is in memory first."""
        if self._planes is None:
            self._planes = Planes.of_settings(self._home, self.port)
            self.port = self._planes.port
        planes = self._planes
        if planes.dead:
            self._pause(planes)
        together(lambda slot: self._start(planes, slot), planes.dead)
        return planes

    def race(self, model: Model) -> None:
        """Find out, beside what goes on, what computes a version best, when it is in memory and that is not known yet."""
        if _ONNX in model.files and model.id in self._cache:
            self._races.enter(model, lambda: self._blob(model.files[_ONNX]))

    def keep_up(self) -> None:
        """See to the processes of native models, take what won a race, have rest what nobody calls, and write down what is in
        memory.
        """
        self._take_winners()
        self._rest()
        self._natives.keep_up()
        self._write()

    def trouble(self, id: str) -> str:
        """Say why a version that was loaded cannot compute now; "" when it can."""
        return self._natives.trouble(id)

    def end(self) -> None:
        """End the races too: the agent stops."""
        self._races.close()

    def close(self) -> None:
        """End the planes and what computes for them."""
        self._write(now=True)
        with self._admitting, self._lock:
            planes, self._planes = self._planes, None
            self._warm = self._cache.ids
            for id in self._warm:
                self._cache.drop(id)
            self._table.lines, self._table.sent, self._table.users = {}, {}, {}
            self._table.models.clear()
        if planes is not None:
            planes.close()
        self._natives.close()

    # ------------------------------------------------------------------------------------ what is in memory

    def _choose(self) -> None:
        """Say what a first plane is given: what was in memory before, then the others, as far as there is room."""
        order = {id: number for number, id in enumerate(self._warm)}
        named = dict.fromkeys(id for line in self._table.lines.values() for id in line.models)
        pinned = self._table.kept()
        free = [id for id in named if id not in pinned and not self._table.users[id] <= self._table.unloaded]
        best = sorted(free, key=lambda id: order.get(id, -1), reverse=True)
        many = int(settings.number("planes"))
        first = [id for id in named if id in pinned]
        self._cache.begin(
            (*first, *best), lambda id: self._cache.cost(id, self._table.models[id].bytes, many), time.monotonic()
        )

    def _evict(self, ids: Sequence[str]) -> None:
        """Have models leave memory; requests that they were given before are answered."""
        for id in ids:
            self._cache.drop(id)
            for plane in self.alive:
                plane.models.discard(id)
        if ids:
            self._table.push({service for id in ids for service in self._table.users.get(id, ())})
            self._natives.only([id for id in self._table.users if id in self._cache])

    def _write(self, *, now: bool = False) -> None:
        with self._lock:
            if self._planes is not None and (now or self._file.due):
                costs = {id: cost for id, cost in self._cache.costs.items() if id in self._table.users}
                self._file.write(self._cache.ids, self._table.unloaded, costs)

    # ------------------------------------------------------------------------------------------- processes

    def _start(self, planes: Planes, slot: int) -> None:
        crashes: Counter[str] = Counter()
        while True:
            plane = planes.start(slot)
            try:
                while (culprit := self._fill(plane)) is None:
                    if self._join(planes, slot, plane):
                        return
            except BaseException:
                plane.kill()
                raise
            plane.kill()
            crashes[culprit] += 1
            if crashes[culprit] >= CRASHES:
                _log.error("the serving plane dies of model %s, which is not loaded again", culprit)
                self._give_up(culprit, "the serving plane died of it, twice")

    def _join(self, planes: Planes, slot: int, plane: PlaneProcess) -> bool:
        """Make a plane one of those that serve; False when more is to be loaded first, as it came in meanwhile."""
        with self._admitting, self._lock:
            if any(id not in plane.models for id in self._cache.ids):
                return False
            plane.keys(self._keys or [])
            lines = [self._table.flagged(line) for line in self._table.lines.values()]
            plane.route(lines, self._table.absent(lines))  # an empty one too: until there is one, callers wait
            self._table.sent = {line.service: line for line in lines}
            planes.keep(slot, plane)
        self._demand.listen(plane)
        return True

    def _pause(self, planes: Planes) -> None:
        """Clear away what died; when that happens again and again, wait ever longer."""
        dead = planes.dead
        computed = [ids for slot in dead if (ids := planes.computing(slot)) is not None]
        buried = sum(planes.bury(slot) for slot in dead)
        for ids in computed:
            self._blame(ids)
        if buried:
            _log.warning("a serving plane died; it is started again")
            self._stopping.wait(self._deaths.note(buried))

    def _blame(self, ids: Sequence[str]) -> None:
        """Take a Model out of service that was computed whenever a plane crashed."""
        culprit = self._crashes.note(ids)
        if culprit is not None:
            _log.error("serving planes crash while they compute model %s, which is taken out of service", culprit)
            self._give_up(culprit, "serving processes crashed again and again while they computed it")

    def _fill(self, plane: PlaneProcess) -> str | None:
        """Load what is in memory into a new plane; return the id of the Model it died of."""
        with self._lock:
            models = [self._table.models[id] for id in self._cache.ids if id in self._table.models]
        for model in models:
            try:
                self._give(model, lambda do: do(plane))
            except Invalid as error:  # it was good before: something on this machine changed
                _log.error("model %s: %s", model.id, error.message)
                self._give_up(model.id, error.message)
            except Unavailable:
                if plane.alive:
                    raise
                return model.id
        return None

    def _give_up(self, id: str, why: str) -> None:
        """Take a Model out of the table that can be loaded no more."""
        with self._lock:
            left = [line.without(id) for line in self._table.lines.values()]
            self._cache.drop(id)
            self.publish([line for line in left if line is not None])
        self._lost(id, why)

    def _give(self, model: Model, each: Callable[[Callable[[PlaneProcess], None]], None]) -> list[int]:
        """Give a version to each plane that has not got it; return by how many bytes they grew."""
        if _ONNX in model.files:
            files, native = {_ONNX: self._blob(model.files[_ONNX])}, None
        else:
            files, native = {}, self._natives.start(model)
        way, workers = self._races.known(model), self._natives.numbers(model.id)
        grown: list[int] = []

        def give(plane: PlaneProcess) -> None:
            if model.id not in plane.models:
                grown.append(plane.load(model, files, native, way, workers))

        each(give)
        return grown

    def _take_winners(self) -> None:
        """Have the planes compute as a race showed to be best. One that cannot goes on as it does."""
        for won in self._races.drain():
            model, planes = self._table.models.get(won.model), self._planes
            if model is None or planes is None or won.model not in self._cache:
                continue  # what is not in memory is loaded that way at the next call
            try:
                planes.become(model, {_ONNX: self._blob(model.files[_ONNX])}, won.variant)
            except LeptonError as error:
                _log.warning("model %s/%s: %s", model.name, model.version, error.message)

    def _blob(self, blob: str) -> bytes:
        with self._blobs().open(blob) as file:
            return file.read()
