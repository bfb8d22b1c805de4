"""Which Models are in memory in the serving processes of a Site, and how they get there.

A plane is several processes (`agent.planes`); one that dies is started again on the same socket and given everything that
answers, while the others go on. A Model without an ONNX file is computed in a process of its own (`agent.native_process`).
"""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leptonai.agent.keys import Table
from leptonai.agent.native_process import NativeProcess, bundle
from leptonai.agent.plane_process import PlaneProcess
from leptonai.agent.planes import Planes, together
from leptonai.agent.races import Races
from leptonai.core import settings
from leptonai.core.errors import Invalid, LeptonError, Unavailable
from leptonai.core.nouns import Model
from leptonai.core.ports import Executor, Store
from leptonai.serving.table import Line

CRASHES = 2  # of the plane, while it loads one version: then that version is at fault
RETIRE_SECONDS = 10.0  # for a native model to finish what it was given

_ONNX = "model.onnx"

_log = logging.getLogger(__name__)


class Residence:
    """The planes of one Site and what is loaded in them. One thread uses it, but for `admit`."""

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
        self._executor = executor
        self._home = home
        self._stopping = stopping
        self._lost = lost
        self._planes: Planes | None = None
        self._keys: Table | None = None  # None: the server did not say yet
        self._admitting = threading.Lock()  # a plane is told either by `admit` or when it joins, and misses no table
        self._lines: list[Line] = []
        self._models: dict[str, Model] = {}
        self._races = Races(home, int(settings.number("planes")))
        self._native: dict[str, NativeProcess] = {}
        self._retired: list[tuple[float, NativeProcess]] = []
        self._deaths = 0
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
                self._give(model, planes.each)
                return
            except Unavailable:
                if not planes.dead:
                    raise
        self.ensure()
        raise Invalid("it cannot be loaded: the serving plane died of it, twice")

    def publish(self, lines: Sequence[Line]) -> None:
        """Have requests go as the table says, if it is another one; the planes free what is in it no more, and so do we."""
        if list(lines) == self._lines:
            return
        self._lines = list(lines)
        if self._planes is not None:
            with contextlib.suppress(Unavailable):  # one that died is started again, and told then
                self._planes.each(lambda plane: plane.route(self._lines))
        used = {id for line in self._lines for id in line.models}
        self._models = {id: model for id, model in self._models.items() if id in used}
        for id in self._native.keys() - used:
            self._retired.append((time.monotonic() + RETIRE_SECONDS, self._native.pop(id)))

    def ensure(self) -> Planes:
        """Return planes that all run; a new one is given everything that answered first."""
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
            self._races.enter(model, {_ONNX: self._read(model.files[_ONNX])})

    def keep_up(self) -> None:
        """See to the processes of native models: start what died, end what is needed no more; and take what won a race."""
        self._take_winners()
        now = time.monotonic()
        for when, native in tuple(self._retired):
            if now > when:
                self._retired.remove((when, native))
                native.close()
        for native in self._native.values():
            native.keep_up()

    def trouble(self, id: str) -> str:
        """Say why a version that was loaded cannot compute now; "" when it can."""
        found = self._native.get(id)
        return "" if found is None else found.trouble

    def end(self) -> None:
        """End the races too: the agent stops."""
        self._races.close()

    def close(self) -> None:
        """End the planes and what computes for them."""
        self._lines = []
        self._models.clear()
        with self._admitting:
            planes, self._planes = self._planes, None
        if planes is not None:
            planes.close()
        for native in (*self._native.values(), *(native for _, native in self._retired)):
            native.close()
        self._native.clear()
        self._retired.clear()

    # ------------------------------------------------------------------------------------------- processes

    def _start(self, planes: Planes, slot: int) -> None:
        crashes: Counter[str] = Counter()
        while True:
            plane = planes.start(slot)
            try:
                culprit = self._fill(plane)
                if culprit is None:
                    with self._admitting:
                        plane.keys(self._keys or [])
                        plane.route(self._lines)  # an empty one too: until there is one, callers wait
                        planes.keep(slot, plane)
                    return
            except BaseException:
                plane.kill()
                raise
            plane.kill()
            crashes[culprit] += 1
            if crashes[culprit] >= CRASHES:
                _log.error("the serving plane dies of model %s, which is not loaded again", culprit)
                self._give_up(culprit, "the serving plane died of it, twice")

    def _pause(self, planes: Planes) -> None:
        """Clear away what died; when that happens again and again, wait ever longer."""
        buried = sum(planes.bury(slot) for slot in planes.dead)
        if buried:
            self._deaths += buried
            _log.warning("a serving plane died; it is started again")
            self._stopping.wait(min(0.05 * 2 ** min(self._deaths, 7), 5.0) if self._deaths > 3 else 0.0)

    def _fill(self, plane: PlaneProcess) -> str | None:
        """Load what answered into a new plane; return the id of the Model it died of."""
        for id in dict.fromkeys(id for line in self._lines for id in line.models):
            try:
                self._give(self._models[id], lambda do: do(plane))
            except Invalid as error:  # it was good before: something on this machine changed
                _log.error("model %s: %s", id, error.message)
                self._give_up(id, error.message)
            except Unavailable:
                if plane.alive:
                    raise
                return id
        return None

    def _give_up(self, id: str, why: str) -> None:
        """Take a Model out of the table that can be loaded no more."""
        self._lines = [left for line in self._lines if (left := line.without(id)) is not None]
        self._lost(id, why)

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

    def _take_winners(self) -> None:
        """Have the planes compute as a race showed to be best. One that cannot goes on as it does."""
        while not self._races.found.empty():
            won = self._races.found.get()
            model = self._models.get(won.model)
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
