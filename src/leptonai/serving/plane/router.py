"""Which version answers under which name. What the agent says is carried out here; the agent decides."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leptonai.core.errors import Conflict, LeptonError, NotFound
from leptonai.core.runtimes import LoadedModel
from leptonai.serving.marks import Marks
from leptonai.serving.plane import replay
from leptonai.serving.plane.board import Board
from leptonai.serving.plane.keys import Keys
from leptonai.serving.plane.metrics import Labels, Metrics, Series
from leptonai.serving.plane.recent import Tap, Watch
from leptonai.serving.plane.remembered import Answers
from leptonai.serving.plane.replica import Replica
from leptonai.serving.plane.split import Asker, Split
from leptonai.serving.plane.waiting import Absent, Waiting
from leptonai.serving.plane.writer import Writer
from leptonai.serving.served import Served
from leptonai.serving.table import UNLOADED, Line, Share
from leptonai.serving.tally import Of

if TYPE_CHECKING:
    from leptonai.serving.plane.together import Group


@dataclass(eq=False)
class Route:
    """Where the requests of one service go, with what each answer says of it."""

    service: str
    replica: Replica
    series: Series
    writer: Writer
    head: bytes  # header lines as they stand on the wire
    public: bool  # whether it may be called without a key
    tap: Tap
    variant: str = "stable"
    pinned: bool = False  # whether its model may not be unloaded
    answers: Answers | None = None  # that are remembered, where the service wants that
    split: Split | None = None  # where several versions answer for the service
    group: "Group | None" = None  # of requests that go together, as long as it is open

    @property
    def version(self) -> str:
        """The number of the version."""
        return str(self.replica.model.version)


class Router:
    """The versions in memory, and the table of routes. Used on the event loop only."""

    def __init__(self, board: Board | None = None) -> None:
        self.told = asyncio.Event()  # set once there was a table
        self._replicas: dict[str, Replica] = {}
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._models: dict[str, Served] = {}  # of services that are absent
        self._uses: Counter[tuple[str, bool]] = (
            Counter()
        )  # how many routes there are to each model, and whether it is absent
        self.waiting = Waiting()
        self.loads = 0  # of versions, since the process runs
        self.evictions: Counter[str] = Counter()  # of services' models, by why
        self._answers: dict[str, Answers] = {}  # that are remembered
        self._routes: dict[str, Route] = {}
        self.metrics = Metrics(self._depths, board, lambda: self._depths(every=False))
        self.metrics.queues, self.metrics.workers = self.queues, self._workers
        self.keys = Keys()  # until the agent says which there are, only what is public can be called
        self.watch = Watch(self.keys)
        self._replayed: set[tuple[str, str]] = set()  # services and their rollouts
        self.marks: Marks | None = None  # where it is said which version is being computed
        self._closing: set[asyncio.Task[None]] = set()
        self.epoch: object = object()  # another one when other keys may call, or other services

    async def load(self, model: Served, load: Callable[[], LoadedModel], way: str = "") -> None:
        """Make a version ready to answer. One that is loaded already stays, or is computed in another `way` from now on.

        Raises `LeptonError` with the reason.
        """
        while (opening := self._opening.get(model.id)) is not None:  # over another line
            await asyncio.wait([opening])
        if self.marks is not None:
            load = self.marks.around(model.id, load)
        replica = self._replicas.get(model.id)
        if replica is None:
            opening = self._opening[model.id] = asyncio.get_running_loop().create_future()
            try:
                self._replicas[model.id] = await Replica.open(model, load, way)
                self.loads += 1
            finally:
                del self._opening[model.id]
                opening.set_result(None)
        elif way != replica.way:
            await replica.become(load, way)

    def crew(self, model: str, numbers: Sequence[int], wanted: int) -> None:
        """Have these workers compute a version from now on, see `Replica.crew`; of one that is not in memory nothing is noted."""
        if (replica := self._replicas.get(model)) is not None:
            replica.crew(numbers, wanted)

    def queues(self) -> dict[str, Any]:
        """Return what the agent wants to know of the versions that workers compute, by their ids."""
        found = ((id, replica.queue()) for id, replica in self._replicas.items())
        return {id: said for id, said in found if said is not None}

    def has(self, model: str) -> bool:
        """Whether a version is in memory."""
        return model in self._replicas

    def add(self, replica: Replica) -> None:
        """Take a version that was made ready elsewhere."""
        self._replicas[replica.model.id] = replica

    def route(self, table: Iterable[Line], models: Iterable[Served] = ()) -> None:
        """Switch to a new table at once; versions that are in it no more finish what they accepted and are freed.

        Raises `LeptonError`, and changes nothing, when the table names a version that is not loaded.
        """
        lines = list(table)
        self.change(lines, models, drop=self._routes.keys() - {line.service for line in lines})
        self._free(id for id in self._replicas if (id, False) not in self._uses)

    def change(
        self, lines: Sequence[Line], models: Iterable[Served] = (), drop: Iterable[str] = (), free: Iterable[str] = ()
    ) -> None:
        """Change the lines of some services, and drop some; versions that no service has any more are freed as by `route`.

        `models`: what the lines of absent services name. `free`: models that were loaded and are not wanted after all. It costs what is changed, however many services there are. Raises as
        `route` does.
        """
        self._models |= {model.id: model for model in models}
        for line in lines:
            known = self._models if line.absent else self._replicas
            for id in line.models:
                if id not in known:
                    raise LeptonError(f"model {id} is not loaded, so service {line.service} stays where it is")
        left: set[tuple[str, bool]] = set()
        splits = gone = False
        for service in drop:
            self._answers.pop(service, None)
            if (route := self._routes.pop(service, None)) is not None:
                gone, splits = True, splits or route.split is not None
                left |= self._count(_all(route), -1)
        for line in lines:
            before = self._routes.get(line.service)
            if line.absent and before is not None and not isinstance(before.replica, Absent):
                self.evictions[line.absent] += 1
            each = [] if before is None else _all(before)
            after = self._routes[line.service] = self._routes_of(line)
            self._count(_all(after), 1)
            left |= self._count(each, -1)
            gone = gone or (before is not None and before.public != after.public)
            splits = splits or after.split is not None or (before is not None and before.split is not None)
        if gone or not self.told.is_set():
            self.epoch = object()
            self.watch.only(self._routes)
        if splits:
            going = {(split.line.service, split.line.salt) for split in self._splits()}
            self.metrics.tallies.keep(going)
            self._replayed &= going
        self.told.set()
        self._free(id for id, absent in left - self._uses.keys() if not absent)
        self._free(id for id in free if (id, False) not in self._uses)
        for id, absent in left - self._uses.keys():
            if absent:
                self._models.pop(id, None)
        for line in lines:
            self.waiting.resume(line.service)

    def manage(self, service: str, op: str) -> bool:
        """Return whether a service is as `op` wants it: "load" in memory, "unload" out of it.

        Raises `NotFound`, and `Conflict` where it is pinned.
        """
        route = self.find(service)
        replica = route.replica
        if op == "unload" and route.pinned:
            raise Conflict(
                f"service {service} is pinned in memory: run  lepton service memory {service} --no-pin  first"
            )
        if op == "load":
            return not isinstance(replica, Absent)
        return isinstance(replica, Absent) and replica.why == UNLOADED

    @property
    def remembered(self) -> int:
        """How many bytes of answers are remembered."""
        return sum(answers.bytes for answers in self._answers.values())

    def used(self) -> list[str]:
        """Return the ids of the loaded models that were used since this was asked last."""
        found = [id for id, replica in self._replicas.items() if replica.used or replica.uses]
        for id in found:
            self._replicas[id].used = False
        return found

    def allow(self, table: Iterable[Sequence[Any]]) -> None:
        """Take a new table of keys, see `Keys.update`."""
        self.keys.update(table)
        self.epoch = object()

    def admit(self, header: bytes | None, service: str) -> None:
        """Raise `Unauthenticated` or `Denied` unless the key in an Authorization header may call the service."""
        route = self._routes.get(service)
        self.keys.check(header, service, route is not None and route.public)

    def find(self, service: str, version: str | None = None, call: Asker | None = None) -> Route:
        """Return the route of a service, for a call that of its variant. Raises `NotFound` that names what there is."""
        route = self._routes.get(service)
        if route is None:
            raise NotFound(f"no service {service[:120]!r} answers here{self._there(call)}")
        if route.split is not None:
            route = route.split.pick(call, version)
        if version is not None and version != route.version:
            raise NotFound(f"service {service} answers with version {route.version}, not {version[:20]!r}")
        return route

    def _there(self, call: Asker | None) -> str:
        """Return which services there are that the key of a call may call, as the end of a sentence."""
        header = None if call is None else call.headers.get(b"authorization")
        known = [name for name, route in self._routes.items() if self.keys.may(header, name, route.public)]
        return f"; there are: {', '.join(sorted(known)[:20]) or 'none yet'}"

    @property
    def routes(self) -> list[Route]:
        """The routes of all services."""
        return list(self._routes.values())

    @property
    def ready(self) -> bool:
        """Whether every service can answer now."""
        return self.told.is_set() and all(route.replica.ready for route in self._routes.values())

    async def close(self) -> None:
        """Finish what was accepted, and free everything."""
        self.route([])
        while self._closing:
            await asyncio.wait(self._closing)

    def _count(self, routes: Iterable[Route], by: int) -> set[tuple[str, bool]]:
        """Count routes that are new, or are no more; return what they lead to."""
        found = [(route.replica.model.id, isinstance(route.replica, Absent)) for route in routes]
        for key in found:
            self._uses[key] += by
            if self._uses[key] <= 0:
                del self._uses[key]
        return set(found)

    def _free(self, ids: Iterable[str]) -> None:
        for id in list(ids):
            if (replica := self._replicas.pop(id, None)) is not None:
                task = asyncio.create_task(replica.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _routes_of(self, line: Line) -> Route:
        """Return the stable route of a line; it knows those of the other variants."""
        known = self._routes.get(line.service)
        split = None
        if len(line.variants) > 1:
            same = known is not None and known.split is not None and known.split.line == line
            split = known.split if known is not None and same else Split(line, self.metrics.tallies)
        made = {share.variant: self._route(line, share, split) for share in line.variants}
        if split is not None:
            split.install(made)
            if not line.absent and line.step == replay.STEP and (line.service, line.salt) not in self._replayed:
                self._replay(line, made)
        return made["stable"]

    def _replay(self, line: Line, made: Mapping[str, Route]) -> None:
        """Ask the version that is not stable what the service was asked lately."""
        self._replayed.add((line.service, line.salt))
        names = (replay.STABLE, replay.NEW, replay.DONE)
        tallies = {name: self.metrics.tallies.of(Of(line.service, line.salt, line.step, name)) for name in names}
        other = next(route for variant, route in made.items() if variant != "stable")
        doing = replay.replay(self.watch.recent(line.service), made["stable"], other, tallies)
        task = asyncio.create_task(doing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(lambda _: self.metrics.post())

    def _route(self, line: Line, share: Share, split: Split | None) -> Route:
        replica: Replica
        if line.absent:
            replica = Absent(self._models[share.model], line.service, line.absent)
        else:
            replica = self._replicas[share.model]
        model = replica.model
        labels = _labels(model, share.variant, line.service)
        said = {
            "x-leptonai-model": labels.model,
            "x-leptonai-version": labels.version,
            "x-leptonai-variant": labels.variant,
        }
        head = "".join(f"{name}: {text}\r\n" for name, text in said.items()).encode()
        writer = Writer(line.service, str(model.version), model.signature)
        series = self.metrics.of(labels)
        if not line.absent:
            series.load_seconds = replica.load_seconds
        return Route(
            line.service,
            replica,
            series,
            writer,
            head,
            line.public,
            self.watch.tap(line.service),
            share.variant,
            line.pinned,
            self._remembers(line),
            split,
        )

    def _remembers(self, line: Line) -> Answers | None:
        """Return what remembers the answers of a service; nothing while several versions answer, or none is to."""
        if not line.answers:
            self._answers.pop(line.service, None)
            return None
        found = self._answers.setdefault(line.service, Answers(line.answers))
        found.resize(line.answers)
        return found if len(line.variants) == 1 and line.absent != UNLOADED else None

    def _splits(self) -> list[Split]:
        return [route.split for route in self._routes.values() if route.split is not None]

    def _each(self) -> list[Route]:
        """Return the routes of all variants."""
        return [each for route in self._routes.values() for each in _all(route)]

    def _workers(self) -> Mapping[Labels, tuple[int, int]]:
        """Return how many workers each version that they compute is to have, and has."""
        return {
            _labels(route.replica.model, route.variant, route.service): found
            for route in self._each()
            if (found := route.replica.workers) is not None
        }

    def _depths(self, every: bool = True) -> Mapping[Labels, int]:
        """Return how many requests each version has at hand; without `every` only of those that have some."""
        return {
            _labels(route.replica.model, route.variant, route.service): depth
            for route in self._each()
            if (depth := route.replica.depth) or every
        }


def _all(route: Route) -> list[Route]:
    """Return the routes of all variants."""
    return route.split.routes if route.split else [route]


def _labels(model: Served, variant: str, service: str) -> Labels:
    return Labels(model.name, str(model.version), variant, service)
