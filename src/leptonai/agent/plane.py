"""Keeps the Services of a Site as they are meant to be: the agent decides, its serving plane carries out.

For each Service the version asked for is loaded beside the one that answers; only when it is loaded and warmed do requests
go to it. One that cannot be loaded is reported with the reason, and the last good one goes on. What is meant to be is heard by
`agent.watch`; how a version gets into the planes is `agent.residence`'s; here the two are compared.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from leptonai.agent.keys import Table
from leptonai.agent.plane_process import PlaneProcess
from leptonai.agent.residence import Residence
from leptonai.agent.rollouts import Rollouts
from leptonai.agent.scaler import Asked, Scaler
from leptonai.core.errors import Busy, Invalid, LeptonError, NotFound, Unavailable
from leptonai.core.nouns import Model, Service, ServiceStatus
from leptonai.core.ports import Executor, Store
from leptonai.core.states import ServiceState
from leptonai.sdk.http import Http
from leptonai.serving import rollout
from leptonai.serving.scaling import merged
from leptonai.serving.table import Line

TICK_SECONDS = 0.2

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
    """The Services of one Site. `run` is the loop of one thread; `hear` and `admit` are called by others."""

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
        self._stopping = stopping
        self._change = threading.Condition()
        self._told: list[Desired] | None = None  # None: the server was not heard yet
        self._live: dict[str, Model] = {}  # which version answers for each service
        self._wanted: dict[str, Service] = {}
        self._each: dict[str, Desired] = {}
        self._restless: dict[str, None] = {}  # services that each tick looks at
        self._seen: list[Desired] | None = None  # what was told when all of it was looked at last
        self._address: tuple[str | None, str | None] = (None, None)  # and where the planes answered then
        self._publishing: dict[str, Line] = {}  # the table of routes
        self._failed: dict[str, Failure] = {}
        self._said: dict[str, ServiceStatus] = {}
        self._residence = Residence(blobs, executor, home, stopping, self._lost)
        self._rollouts = Rollouts(http, self._residence)

    @property
    def url(self) -> str | None:
        """Where the plane answers; None while there is no Service."""
        return self._residence.url

    @property
    def grpc(self) -> str | None:
        """Where it answers gRPC, as gRPC's clients take it; None where it does not."""
        return self._residence.grpc

    @property
    def alive(self) -> list[PlaneProcess]:
        """The planes that run now."""
        return self._residence.alive

    @property
    def absent(self) -> tuple[int, dict[str, str]] | None:
        """Which services' models are not in memory, see `Residence.absent`."""
        return self._residence.absent

    @property
    def scaler(self) -> Scaler:
        """What sees to the number of workers."""
        return self._residence.scaler

    def hear(self, answer: Mapping[str, Any]) -> None:
        """Take what the server says the Services are meant to be."""
        with self._change:
            self._told = [_desired(item) for item in answer["services"]]
            self._change.notify_all()

    def admit(self, keys: Table) -> None:
        """Tell the planes which keys may call."""
        self._residence.admit(keys)
        self.wake()

    def run(self) -> None:
        """Make what is what is meant to be, until the agent stops."""
        self._remember_port()
        while not self._stopping.is_set():
            with self._change:
                self._change.wait(TICK_SECONDS)
                told = self._told
            if told is None or not self._residence.admitting:
                continue
            try:
                self._tick(told)
            except LeptonError as error:
                _log.warning("services: %s", error.message)
                self._stopping.wait(1.0)
        self._close()
        self._residence.end()

    def wake(self) -> None:
        """Have `run` look now, such as when the agent stops."""
        with self._change:
            self._change.notify_all()

    # ---------------------------------------------------------------------------------------------- one tick

    def _tick(self, told: list[Desired]) -> None:
        """Look at what may have to change: everything when something else was told, later only what is not at rest yet."""
        if told is not self._seen or (self.url, self.grpc) != self._address:
            self._take(told)
        looked = [self._newest(name) for name in self._restless]
        self._rollouts.look(self._wanted)
        self._promote(looked)
        self._residence.keep_up()
        if self._wanted:
            if not self._residence.open:
                last = ((name, self._each[name].last_good) for name in self._wanted)
                self._live = {name: model for name, model in last if model is not None}
                self._residence.know(*self._live.values())
            if looked:
                self._publish(*self._restless)
            self._residence.ensure()
            for desired in looked:
                if not desired.service.stopped and self._serve(desired):
                    self._restless.pop(desired.service.name, None)
        elif self._residence.open:
            self._close()
        for desired in looked:
            if desired.service.stopped:
                self._report(desired, ServiceState.STOPPED)
                self._restless.pop(desired.service.name, None)

    def _take(self, told: list[Desired]) -> None:
        """Take what the server says, and look at all of it."""
        self._seen, self._address = told, (self.url, self.grpc)
        self._each = {desired.service.name: desired for desired in told}
        self.scaler.ask(_asked(told))
        self._restless = dict.fromkeys(self._each)
        for known in (self._live, self._said, self._wanted, self._failed):
            for name in known.keys() - self._each.keys():
                del known[name]
        self._publishing = {name: line for name, line in self._publishing.items() if name in self._each}

    def _newest(self, name: str) -> Desired:
        """Return a Service as far as it is known here."""
        desired = self._each[name]
        desired = desired._replace(service=self._rollouts.newest(desired.service))
        if desired.service.stopped:
            self._wanted.pop(name, None)
            self._live.pop(name, None)
        else:
            self._wanted[name] = desired.service
        return desired

    def _serve(self, desired: Desired) -> bool:
        """See to one Service; return whether it is at rest: only news can change how it stands."""
        name, id = desired.service.name, desired.wanted
        live = self._live.get(name)
        if live is not None and live.id == id:
            self._failed.pop(name, None)
            self._rollouts.drive(desired.service, desired.models)
            desired = desired._replace(service=self._rollouts.newest(desired.service))
            if desired.wanted != id:  # it was promoted just now: it answers before another deploy can come in between
                self._wanted[name] = desired.service
                self._promote([desired])
                self._publish(name)
            trouble = self._residence.trouble(id)  # no worker of it runs
            state = (ServiceState.STARTING, trouble) if trouble else rollout.state_of(desired.service)
            self._report(desired, *state)
            self._residence.race(live)  # also what an agent found there that began with other settings or libraries
            going = desired.service.rollout is not None and desired.service.rollout.going
            return (
                not going and desired.wanted == id and _ONNX in live.files
            )  # the processes of others may get into trouble
        failure = self._failed.get(name)
        if failure is not None and (failure.model, failure.rev) == (id, desired.service.status.rev):
            self._report(desired, ServiceState.FAILED, failure.message)
            return True
        self._report(desired, ServiceState.UPDATING if name in self._live else ServiceState.STARTING)
        try:
            if id not in desired.models:
                raise Invalid("there is no such model version any more")
            self._residence.load(desired.models[id])
        except (Busy, Unavailable):
            raise  # the server or the plane is away: try again
        except LeptonError as error:
            self._failed[name] = Failure(id, desired.service.status.rev, error.message)
            self._report(desired, ServiceState.FAILED, error.message)
            return True
        self._failed.pop(name, None)
        self._live[name] = desired.models[id]
        self._publish(name)
        self._report(desired, *rollout.state_of(desired.service))
        self._residence.race(desired.models[id])
        return False

    def _promote(self, looked: Sequence[Desired]) -> None:
        """Have the version that was tried answer, where it is meant to: it is loaded already."""
        for service in (desired.service for desired in looked if not desired.service.stopped):
            live, promoted = self._live.get(service.name), self._rollouts.at_hand(service)
            if live is not None and promoted is not None and promoted.id != live.id:
                self._live[service.name] = promoted
                self._residence.race(promoted)

    def _publish(self, *names: str) -> None:
        """Send the table of routes, in which the lines of these services may be others."""
        for name in names:
            live = self._live.get(name)
            if live is None or name not in self._wanted:
                self._publishing.pop(name, None)
            else:
                self._publishing[name] = self._rollouts.line(self._wanted[name], live)
        self._residence.publish(list(self._publishing.values()))

    def _lost(self, id: str, why: str) -> None:
        """Forget a version that answered and cannot be loaded any more; `_serve` tries it again."""
        self._rollouts.lost(id, why)
        self._live = {name: model for name, model in self._live.items() if model.id != id}
        self._publishing = {name: line for name, line in self._publishing.items() if id not in line.models}
        self._seen = None  # all is looked at again

    def _close(self) -> None:
        self._live.clear()
        self._publishing.clear()
        self._residence.close()

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
            self._residence.port = urlsplit(site.get("plane") or "").port or 0


def _asked(told: Sequence[Desired]) -> dict[str, Asked]:
    """Return what is asked of the number of workers, for each Model that services with a range answer with."""
    every: dict[str, list[Service]] = {}
    for desired in told:
        for id in desired.models if desired.service.replicas is not None and not desired.service.stopped else ():
            every.setdefault(id, []).append(desired.service)
    found = {}
    for id, services in every.items():
        replicas = merged([service.replicas for service in services if service.replicas is not None])
        if replicas is not None:
            found[id] = Asked(replicas, tuple(service.name for service in services))
    return found


def _desired(item: Mapping[str, Any]) -> Desired:
    models = [Model.model_validate(model) for model in item["models"]]
    return Desired(Service.model_validate(item["service"]), {model.id: model for model in models})
