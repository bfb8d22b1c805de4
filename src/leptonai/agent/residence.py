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
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from leptonai.agent.cache import GUESS, Cache, Full
from leptonai.agent.crashes import Crashes
from leptonai.agent.demand import Demand
from leptonai.agent.keys import Table
from leptonai.agent.natives import Natives
from leptonai.agent.plane_process import PlaneProcess
from leptonai.agent.planes import Planes, together
from leptonai.agent.races import Races
from leptonai.agent.resident_file import ResidentFile, budget
from leptonai.core import settings
from leptonai.core.errors import Invalid, LeptonError, Unavailable
from leptonai.core.nouns import Model
from leptonai.core.ports import Executor, Store, Variant
from leptonai.serving.table import COLD, UNLOADED, Line

CRASHES = 2  # of the plane, while it loads one version: then that version is at fault
TRIES = 3  # to bring a model while planes come and go
RECENT_SECONDS = 60.0  # deaths that make the next start wait

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
        self._lines: dict[str, Line] = {}
        self._sent: dict[str, Line] = {}
        self._users: dict[str, set[str]] = {}  # the services of each Model
        self._models: dict[str, Model] = {}
        self._pinned: Collection[str] = ()
        self._file = ResidentFile(home / "resident.json")
        self._unloaded = set(self._file.unloaded)
        self._warm = self._file.warm  # what was in memory before the agent began, used last at the end
        self._cache = Cache(budget(), self._file.costs)
        self._races = Races(home, int(settings.number("planes")))
        self._natives = Natives(executor, home, blobs)
        self._demand = Demand(self)
        self._deaths = 0
        self._died: list[float] = []  # when, of late
        self._crashes = Crashes()
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
    def deaths(self) -> int:
        """How many planes died since the agent began."""
        return self._deaths

    def admit(self, keys: Table) -> None:
        """Tell the planes which keys may call. Called by another thread, which never waits for a version that is loaded."""
        with self._admitting:
            self._keys = keys
            if self._planes is not None:
                with contextlib.suppress(Unavailable):  # one that died is started again, and told then
                    self._planes.each(lambda plane: plane.keys(keys))

    def know(self, *models: Model) -> None:
        """Say what Models the lines of `publish` may name without `load`: what answered before the agent began."""
        self._models |= {model.id: model for model in models}

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
            guess = self._cache.costs.get(model.id, int(GUESS * model.bytes * many))
            if model.id not in self._cache:
                self._evict(self._cache.room(guess, keep=self._kept()))
        grown = 0
        for _ in range(TRIES):  # a plane may join meanwhile
            try:
                grown = max(grown, sum(self._give(model, planes.each)))
            except BaseException:
                with self._lock:
                    if model.id not in self._cache:
                        self._tell(free=[model.id])
                raise
            with self._lock:
                if all(model.id in plane.models for plane in planes.alive):
                    if model.id not in self._cache:
                        self._cache.add(model.id, time.monotonic(), max(grown, model.bytes * many))
                        with contextlib.suppress(Full):  # it took more than was guessed
                            self._evict(self._cache.room(0, 0, self._kept() | {model.id}))
                    return
        raise Unavailable("serving planes are being started again: try again", retry_after=1.0)

    def publish(self, lines: Sequence[Line], pinned: Collection[str] = ()) -> None:
        """Have requests go as the table says; only what is new in it is sent. The planes free what is in it no more.

        `pinned`: the names of services whose models stay in memory.
        """
        with self._lock:
            self._pinned = pinned
            table = {line.service: line for line in lines}
            if table == self._lines:
                return
            changed = [line for line in lines if self._lines.get(line.service) != line]
            gone = self._lines.keys() - table.keys()
            for service in (*gone, *(line.service for line in changed)):
                for id in self._lines[service].models if service in self._lines else ():
                    self._users[id].discard(service)
            self._lines = table
            self._unloaded -= gone
            for line in changed:
                for id in line.models:
                    self._users.setdefault(id, set()).add(line.service)
            for id in [id for id, users in self._users.items() if not users]:
                del self._users[id]
                self._cache.drop(id)
                self._models.pop(id, None)
                for plane in self.alive:
                    plane.models.discard(id)
            self._natives.only(self._users)
            if self._planes is None:
                self._choose()
            else:
                self._push((line.service for line in changed), gone)
                for line in changed:  # a version cannot be tried beside one that is not there
                    if len(line.variants) > 1 and self._flagged(line).absent == COLD:
                        self._demand.ask("want", line.service)

    def want(self, op: str, service: str) -> None:
        """Do what a plane asks for: load the model of a service that is called, or what a caller wants of it. By `Demand`."""
        with self._lock:
            if op == "unload":
                self._unloaded.add(service)
                ids = self._lines[service].models if service in self._lines else ()
                self._evict([id for id in ids if id in self._cache and self._users[id] <= self._unloaded])
            elif op == "load":
                self._unloaded.discard(service)
            line = self._lines.get(service)
            models = [] if line is None else [self._models[id] for id in line.models if id not in self._cache]
            if line is None or not models or service in self._unloaded:
                self._push([service], force=True)
                return
        try:
            for model in models:
                self.bring(model)
        except LeptonError as error:
            _log.warning("service %s: %s", service, error.message)
            with self._lock:
                for plane in self.alive:
                    with contextlib.suppress(LeptonError):
                        plane.refuse(service, f"service {service} cannot be loaded: {error.message}")
            return
        with self._lock:
            self._push({user for model in models for user in self._users.get(model.id, ())} | {service})

    def touch(self, ids: Iterable[str]) -> None:
        """Note which models were used just now."""
        with self._lock:
            self._cache.touch(ids, time.monotonic())

    def rest(self, idle: Callable[[str], float | None]) -> None:
        """Have models leave memory that nobody used for as long as all their services allow; `idle` says of a service how long
        that is, None: for ever.
        """
        now = time.monotonic()
        with self._lock:
            going = []
            for id in self._cache.ids:
                spans = [idle(service) for service in self._users.get(id, ())]
                if (
                    spans
                    and id not in self._kept()
                    and all(s is not None and now - self._cache.since(id) > s for s in spans)
                ):
                    going.append(id)
            self._evict(going)

    def ensure(self) -> Planes:
        """Return planes that all run; a new one is given everything that is in memory first."""
        if self._planes is None:
            log = self._home / "logs" / "plane.log"
            log.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            grpc = int(settings.number("grpc_port"))
            self._planes = Planes(self.port, log, int(settings.number("planes")), grpc=grpc)
            self.port = self._planes.port
            if grpc and self._planes.grpc_port != grpc:
                _log.warning("port %d is taken: gRPC is answered at %d", grpc, self._planes.grpc_port)
        planes = self._planes
        if planes.dead:
            self._pause(planes)
        together(lambda slot: self._start(planes, slot), planes.dead)
        return planes

    def race(self, model: Model) -> None:
        """Find out, beside what goes on, what computes a version best."""
        if _ONNX in model.files and self._races.wants(model):
            self._races.enter(model, {_ONNX: self._blob(model.files[_ONNX])})

    def keep_up(self) -> None:
        """See to the processes of native models, take what won a race, and write down what is in memory."""
        self._take_winners()
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
            self._lines, self._sent, self._users = {}, {}, {}
            self._models.clear()
        if planes is not None:
            planes.close()
        self._natives.close()

    # ------------------------------------------------------------------------------------ what is in memory

    def _kept(self) -> set[str]:
        """Return the models that must stay: pinned ones, those of rollouts, and those that nothing leads to yet."""
        kept = {id for service in self._pinned if service in self._lines for id in self._lines[service].models}
        several = {id for line in self._lines.values() if len(line.variants) > 1 for id in line.models}
        return kept | several | {id for id in self._cache.ids if id not in self._users}

    def _choose(self) -> None:
        """Say what a first plane is given: what was in memory before, then the others, as far as there is room."""
        order = {id: number for number, id in enumerate(self._warm)}
        named = dict.fromkeys(id for line in self._lines.values() for id in line.models)
        pinned = self._kept()
        free = [id for id in named if id not in pinned and not self._users[id] <= self._unloaded]
        best = sorted(free, key=lambda id: order.get(id, -1), reverse=True)
        chosen = []
        many = int(settings.number("planes"))
        for id in (*(id for id in named if id in pinned), *best):
            if id not in self._cache:
                cost = self._cache.costs.get(id, int(GUESS * self._models[id].bytes * many))
                with contextlib.suppress(Full):
                    if not self._cache.room(cost, keep=self._cache.ids):
                        self._cache.add(id, time.monotonic(), cost)
                        chosen.append(id)
        self._cache.touch(reversed(chosen), time.monotonic())

    def _evict(self, ids: Sequence[str]) -> None:
        """Have models leave memory; requests that they were given before are answered."""
        for id in ids:
            self._cache.drop(id)
            self._cache.evictions += 1
            for plane in self.alive:
                plane.models.discard(id)
        if ids:
            self._push({service for id in ids for service in self._users.get(id, ())})
            self._natives.only([id for id in self._users if id in self._cache])

    def _flagged(self, line: Line) -> Line:
        if line.service in self._unloaded:
            return line._replace(absent=UNLOADED)
        away = any(id not in self._cache for id in line.models)
        return line._replace(absent=COLD) if away else line

    def _push(self, services: Iterable[str], drop: Iterable[str] = (), *, force: bool = False) -> None:
        """Send the lines of some services to the planes, as far as they are others now."""
        lines = [self._flagged(self._lines[service]) for service in services if service in self._lines]
        news = [line for line in lines if force or self._sent.get(line.service) != line]
        self._sent |= {line.service: line for line in news}
        for service in (gone := [service for service in drop if service in self._sent]):
            del self._sent[service]
        if news or gone:
            self._tell(news, gone)

    def _tell(self, lines: Sequence[Line] = (), drop: Sequence[str] = (), free: Sequence[str] = ()) -> None:
        for plane in self.alive:
            with contextlib.suppress(Unavailable):  # one that died is started again, and told then
                plane.change(lines, self._absent(lines), drop, free)

    def _absent(self, lines: Iterable[Line]) -> list[Model]:
        return [self._models[id] for id in dict.fromkeys(id for line in lines if line.absent for id in line.models)]

    def _write(self, *, now: bool = False) -> None:
        with self._lock:
            if self._planes is not None:
                costs = {id: cost for id, cost in self._cache.costs.items() if id in self._users}
                self._file.write(self._cache.ids, self._unloaded, costs, now=now)

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
            lines = [self._flagged(line) for line in self._lines.values()]
            plane.route(lines, self._absent(lines))  # an empty one too: until there is one, callers wait
            self._sent = {line.service: line for line in lines}
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
            self._deaths += buried
            now = time.monotonic()
            self._died = [when for when in self._died if now - when < RECENT_SECONDS] + [now] * buried
            _log.warning("a serving plane died; it is started again")
            many = len(self._died)
            self._stopping.wait(min(0.01 * 2 ** min(many, 7), 1.0) if many > 3 else 0.0)

    def _blame(self, ids: Sequence[str]) -> None:
        """Take a Model out of service that was computed whenever a plane crashed."""
        culprit = self._crashes.note(ids)
        if culprit is not None:
            _log.error("serving planes crash while they compute model %s, which is taken out of service", culprit)
            self._give_up(culprit, "serving processes crashed again and again while they computed it")

    def _fill(self, plane: PlaneProcess) -> str | None:
        """Load what is in memory into a new plane; return the id of the Model it died of."""
        with self._lock:
            models = [self._models[id] for id in self._cache.ids if id in self._models]
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
            left = [line.without(id) for line in self._lines.values()]
            self._cache.drop(id)
            self.publish([line for line in left if line is not None], self._pinned)
        self._lost(id, why)

    def _give(self, model: Model, each: Callable[[Callable[[PlaneProcess], None]], None]) -> list[int]:
        """Give a version to each plane that has not got it; return by how many bytes they grew."""
        if _ONNX in model.files:
            files, native = {_ONNX: self._blob(model.files[_ONNX])}, None
        else:
            files, native = {}, self._natives.start(model)
        way = self._races.known(model)
        grown: list[int] = []

        def give(plane: PlaneProcess) -> None:
            if model.id not in plane.models:
                grown.append(plane.load(model, files, native, way))

        each(give)
        return grown

    def _take_winners(self) -> None:
        """Have the planes compute as a race showed to be best. One that cannot goes on as it does."""
        while not self._races.found.empty():
            won = self._races.found.get()
            model = self._models.get(won.model)
            if model is None or self._planes is None or won.model not in self._cache:
                continue  # what is not in memory is loaded that way at the next call
            files = {_ONNX: self._blob(model.files[_ONNX])}
            try:
                self._planes.each(lambda plane, m=model, f=files, w=won.variant: _become(plane, m, f, w))  # type: ignore[misc]
            except LeptonError as error:
                _log.warning("model %s/%s: %s", model.name, model.version, error.message)

    def _blob(self, blob: str) -> bytes:
        with self._blobs().open(blob) as file:
            return file.read()


def _become(plane: PlaneProcess, model: Model, files: dict[str, bytes], way: Variant) -> None:
    if model.id in plane.models:
        plane.load(model, files, way=way)
