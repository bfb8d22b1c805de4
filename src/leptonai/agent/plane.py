"""Keeps the Services of a Site as they are meant to be: the agent decides, its serving plane carries out.

For each Service the version asked for is loaded beside the one that answers; only when it is loaded and warmed do requests
go to it. One that cannot be loaded is reported with the reason, and the last good one goes on. A plane is several processes
(`agent.planes`); one that dies is started again on the same socket and given everything again, while the others go on.
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from leptonai.agent.keys import Table
from leptonai.agent.native_process import NativeProcess, bundle
from leptonai.agent.plane_process import PlaneProcess
from leptonai.agent.planes import Planes, together
from leptonai.agent.races import Races
from leptonai.core import settings
from leptonai.core.errors import Busy, Invalid, LeptonError, NotFound, Unavailable
from leptonai.core.nouns import Model, Service, ServiceStatus
from leptonai.core.ports import Executor, Store
from leptonai.core.states import ServiceState
from leptonai.sdk.http import Http
from leptonai.serving.table import Line

WAIT_SECONDS = 20.0
TICK_SECONDS = 0.2
CRASHES = 2  # of the plane, while it loads one version: then that version is at fault
RETIRE_SECONDS = 10.0  # for a native model to finish what it was given

_ONNX = "model.onnx"

_log = logging.getLogger(__name__)


class Desired(NamedTuple):
    """A Service as the server has it, with the Models it names."""

    service: Service
    models: Mapping[str, Model]

    @property
    def wanted(self) -> str:
        """The id of the Model that is asked for."""
        return self.service.variants[0].model

    @property
    def last_good(self) -> Model | None:
        """What answered when the Site was last heard of: after a restart it answers before anything else is tried."""
        return next((self.models[id] for id in self.service.status.live if id in self.models), None)


class Failure(NamedTuple):
    """Why a version could not be loaded, and which deploy asked for it: another one is another try."""

    model: str
    rev: int
    message: str


class Services:
    """The Services of one Site. `run` is the loop of one thread, `watch` that of another."""

    def __init__(
        self,
        site: str,
        http: Http,
        blobs: Callable[[], Store],
        executor: Executor,
        home: Path,
        stopping: threading.Event,
    ):
        self._site = site
        self._http = http
        self._blobs = blobs
        self._executor = executor
        self._home = home
        self._stopping = stopping
        self._change = threading.Condition()
        self._told: list[Desired] | None = None  # None: the server was not heard yet
        self._planes: Planes | None = None
        self._keys: Table | None = None  # None: the server did not say yet
        self._admitting = threading.Lock()  # a plane is told either by `admit` or when it joins, and misses no table
        self._routed: list[Line] = []
        self._public: set[str] = set()
        self._live: dict[str, Model] = {}  # which version answers for each service
        self._failed: dict[str, Failure] = {}
        self._races = Races(home, int(settings.number("planes")))
        self._native: dict[str, NativeProcess] = {}
        self._retired: list[tuple[float, NativeProcess]] = []
        self._said: dict[str, ServiceStatus] = {}
        self._port = 0
        self._deaths = 0

    @property
    def url(self) -> str | None:
        """Where the plane answers; None while there is no Service."""
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

    def watch(self) -> None:
        """Ask the server what the Services are meant to be, until the agent stops."""
        fingerprint, pause = "", 0.1
        while not self._stopping.is_set():
            asked = {"after": fingerprint or None, "wait": WAIT_SECONDS}
            try:
                answer = self._http.call(
                    "GET", f"/sites/{self._site}/services", params=asked, timeout=WAIT_SECONDS + 15
                )
            except LeptonError as error:
                _log.warning("services: %s", error.message)
                self._stopping.wait(pause)
                pause = min(pause * 2, 5.0)
                continue
            pause, fingerprint = 0.1, answer["fingerprint"]
            with self._change:
                self._told = [_desired(item) for item in answer["services"]]
                self._change.notify_all()

    def admit(self, keys: Table) -> None:
        """Tell the planes which keys may call. Called by another thread than `run`, which may be long at a version."""
        with self._admitting:
            self._keys = keys
            if self._planes is not None:
                with contextlib.suppress(Unavailable):  # one that died is started again, and told then
                    self._planes.each(lambda plane: plane.keys(keys))
        self.wake()

    def run(self) -> None:
        """Make what is what is meant to be, until the agent stops."""
        self._remember_port()
        while not self._stopping.is_set():
            with self._change:
                self._change.wait(TICK_SECONDS)
                told = self._told
            if told is None or self._keys is None:  # no plane answers before it knows whom
                continue
            try:
                self._tick(told)
            except LeptonError as error:
                _log.warning("services: %s", error.message)
                self._stopping.wait(1.0)
        self._races.close()
        self._close()

    def wake(self) -> None:
        """Have `run` look now, such as when the agent stops."""
        with self._change:
            self._change.notify_all()

    # ---------------------------------------------------------------------------------------------- one tick

    def _tick(self, told: list[Desired]) -> None:
        wanted = [desired for desired in told if not desired.service.stopped]
        names = {desired.service.name for desired in wanted}
        for name in self._live.keys() - names:
            del self._live[name]
        self._public = {desired.service.name for desired in wanted if desired.service.public}
        if self._table() != self._routed:
            self._route()
        for name in self._said.keys() - {desired.service.name for desired in told}:
            del self._said[name]
        self._retire()
        self._take_winners()
        if wanted:
            if self._planes is None:
                self._live = {d.service.name: model for d in wanted if (model := d.last_good) is not None}
            self._ensure_planes()
            for desired in wanted:
                self._serve(desired)
        elif self._planes is not None:
            self._close()
        for desired in told:
            if desired.service.stopped:
                self._report(desired, ServiceState.STOPPED)

    def _serve(self, desired: Desired) -> None:
        name, id = desired.service.name, desired.wanted
        live = self._live.get(name)
        if live is not None and live.id == id:
            self._failed.pop(name, None)
            self._report(desired, ServiceState.READY)
            return
        failure = self._failed.get(name)
        if failure is not None and (failure.model, failure.rev) == (id, desired.service.status.rev):
            self._report(desired, ServiceState.FAILED, failure.message)
            return
        self._report(desired, ServiceState.UPDATING if name in self._live else ServiceState.STARTING)
        try:
            if id not in desired.models:
                raise Invalid("there is no such model version any more")
            self._load(desired.models[id])
        except (Busy, Unavailable):
            raise  # the server or the plane is away: try again
        except LeptonError as error:
            self._failed[name] = Failure(id, desired.service.status.rev, error.message)
            self._report(desired, ServiceState.FAILED, error.message)
            return
        self._failed.pop(name, None)
        self._live[name] = desired.models[id]
        self._route()
        self._report(desired, ServiceState.READY)
        self._race(desired.models[id])

    def _load(self, model: Model) -> None:
        """Load a version beside what answers. Raises `Invalid` when it cannot be, or when a plane dies of it."""
        for _ in range(CRASHES):
            planes = self._ensure_planes()
            try:
                self._give(model, planes.each)
                return
            except Unavailable:
                if not planes.dead:
                    raise
        self._ensure_planes()
        raise Invalid("it cannot be loaded: the serving plane died of it, twice")

    def _give(self, model: Model, each: Callable[[Callable[[PlaneProcess], None]], None]) -> None:
        """Give a version to each plane that has not got it."""
        if _ONNX in model.files:
            files, native = {_ONNX: self._read(model.files[_ONNX])}, None
        else:
            files, native = {}, self._start_native(model).path
        way = self._races.known(model)

        def give(plane: PlaneProcess) -> None:
            if model.id not in plane.models:
                plane.load(model, files, native, way)

        each(give)

    def _race(self, model: Model) -> None:
        """Find out, beside what goes on, what computes a version best."""
        if _ONNX in model.files and self._races.wants(model):
            self._races.enter(model, {_ONNX: self._read(model.files[_ONNX])})

    def _take_winners(self) -> None:
        """Have the planes compute as a race showed to be best. One that cannot goes on as it does."""
        while not self._races.found.empty():
            won = self._races.found.get()
            model = next((model for model in self._live.values() if model.id == won.model), None)
            if model is None or self._planes is None:
                continue
            files = {_ONNX: self._read(model.files[_ONNX])}
            try:
                self._planes.each(lambda plane, m=model, f=files, w=won.variant: plane.load(m, f, way=w))  # type: ignore[misc]
            except LeptonError as error:
                _log.warning("model %s/%s: %s", model.name, model.version, error.message)

    def _read(self, blob: str) -> bytes:
        with self._blobs().open(blob) as file:
            return file.read()

    def _route(self) -> None:
        """Send the table of routes; the planes free what is in it no more, and so do we."""
        table = self._routed = self._table()
        if self._planes is not None:
            with contextlib.suppress(Unavailable):  # one that died is started again, and told then
                self._planes.each(lambda plane: plane.route(table))
        used = {model.id for model in self._live.values()}
        for id in self._native.keys() - used:
            self._retired.append((time.monotonic() + RETIRE_SECONDS, self._native.pop(id)))

    def _table(self) -> list[Line]:
        return [Line.one(name, model.id, name in self._public) for name, model in self._live.items()]

    # ------------------------------------------------------------------------------------------- processes

    def _ensure_planes(self) -> Planes:
        """Return planes that all run; a new one is given everything that answered first."""
        if self._planes is None:
            log = self._home / "logs" / "plane.log"
            log.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            grpc = int(settings.number("grpc_port"))
            self._planes = Planes(self._port, log, int(settings.number("planes")), grpc=grpc)
            self._port = self._planes.port
            if grpc and self._planes.grpc_port != grpc:
                _log.warning("port %d is taken: gRPC is answered at %d", grpc, self._planes.grpc_port)
        planes = self._planes
        if planes.dead:
            self._pause(planes)
        together(lambda slot: self._start(planes, slot), planes.dead)
        return planes

    def _start(self, planes: Planes, slot: int) -> None:
        crashes: Counter[str] = Counter()
        while True:
            plane = planes.start(slot)
            try:
                culprit = self._fill(plane)
                if culprit is None:
                    with self._admitting:
                        plane.keys(self._keys or [])
                        plane.route(self._table())  # an empty one too: until there is one, callers wait
                        planes.keep(slot, plane)
                    return
            except BaseException:
                plane.kill()
                raise
            plane.kill()
            crashes[culprit] += 1
            if crashes[culprit] >= CRASHES:
                _log.error("the serving plane dies of model %s, which is not loaded again", culprit)
                self._live = {name: model for name, model in self._live.items() if model.id != culprit}

    def _pause(self, planes: Planes) -> None:
        """Clear away what died; when that happens again and again, wait ever longer."""
        buried = sum(planes.bury(slot) for slot in planes.dead)
        if buried:
            self._deaths += buried
            _log.warning("a serving plane died; it is started again")
            self._stopping.wait(min(0.05 * 2 ** min(self._deaths, 7), 5.0) if self._deaths > 3 else 0.0)

    def _fill(self, plane: PlaneProcess) -> str | None:
        """Load what answered into a new plane; return the id of the Model it died of."""
        for name, model in tuple(self._live.items()):
            try:
                self._give(model, lambda do: do(plane))
            except Invalid as error:  # it was good before: something on this machine changed
                _log.error("service %s: %s", name, error.message)
                self._live.pop(name, None)
            except Unavailable:
                if plane.alive:
                    raise
                return model.id
        return None

    def _start_native(self, model: Model) -> NativeProcess:
        found = self._native.get(model.id)
        if found is None:
            files = {name: self._read(blob) for name, blob in bundle(model).items()}
            folder = self._home / "jobs" / f"native-{model.id}"
            log = self._home / "logs"
            found = NativeProcess(self._executor, model, files, folder, self._blobs().open, log)
            self._native[model.id] = found
            try:
                found.start()
            except BaseException:
                self._native.pop(model.id).close()
                raise
        return found

    def _retire(self) -> None:
        now = time.monotonic()
        for when, native in tuple(self._retired):
            if now > when:
                self._retired.remove((when, native))
                native.close()
        for native in self._native.values():
            native.keep_up()

    def _close(self) -> None:
        self._live.clear()
        with self._admitting:
            planes, self._planes = self._planes, None
        if planes is not None:
            planes.close()
        for native in (*self._native.values(), *(native for _, native in self._retired)):
            native.close()
        self._native.clear()
        self._retired.clear()

    # ------------------------------------------------------------------------------------------- the server

    def _report(self, desired: Desired, state: ServiceState, message: str = "") -> None:
        service = desired.service
        live = self._live.get(service.name)
        url = self.url
        status = ServiceStatus(
            state=state,
            rev=service.status.rev,
            live=() if live is None else (live.id,),
            message=message,
            url=None if url is None else f"{url}/services/{service.name}/predict",
            grpc_url=self.grpc,
        )
        if status == self._said.get(service.name, service.status):
            return
        try:
            self._http.call("PUT", f"/services/{quote(service.name)}/status", json=status.model_dump(mode="json"))
        except NotFound:
            return  # it was deleted just now
        self._said[service.name] = status

    def _remember_port(self) -> None:
        """Take the port that the Site had before, so that the addresses people use stay true."""
        with contextlib.suppress(LeptonError):
            site: dict[str, Any] = self._http.call("GET", f"/sites/{self._site}")
            self._port = urlsplit(site.get("plane") or "").port or 0


def _desired(item: Mapping[str, Any]) -> Desired:
    models = [Model.model_validate(model) for model in item["models"]]
    return Desired(Service.model_validate(item["service"]), {model.id: model for model in models})
