"""Inference over gRPC: one request, or a conversation of them, handed to the models by the router."""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from leptonai.core.errors import Denied, LeptonError, Unauthenticated
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.grpc import answers, status, tensors, wire
from leptonai.serving.plane.grpc.call import Talk, Turn, Unary
from leptonai.serving.plane.grpc.limits import Limits
from leptonai.serving.plane.grpc.messages import ModelInferRequest, decoded
from leptonai.serving.plane.grpc.status import HTTP, Status
from leptonai.serving.plane.grpc.streams import Stream
from leptonai.serving.plane.metrics import Labels
from leptonai.serving.plane.readers import BUSY_BODY
from leptonai.serving.plane.recent import Sight
from leptonai.serving.plane.router import Route, Router
from leptonai.serving.plane.waiting import Absent, Away

REMEMBERED = 4096  # routes

_PATH = b"/inference.GRPCInferenceService/ModelInfer"
_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


class Door(Protocol):
    """Where the answer goes: a call, or a turn in a conversation."""

    def reply(self, message: bytes, trailers: bytes) -> bool:
        """Send the answer; return whether anybody waits for it."""

    def fail(self, error: Exception, trailers: bytes) -> Status:
        """Send an error; return how the call ended."""


class Ended(NamedTuple):
    """How a call ended, by the number that HTTP has for it."""

    status: int


class Known:
    """What is the same in all answers of one route."""

    __slots__ = ("replica", "trailers", "writer")

    def __init__(self, route: Route):
        self.replica = route.replica
        self.writer = answers.Writer(route.service, route.version, route.replica.model.signature)
        lines = [line.partition(b": ") for line in route.head.split(b"\r\n") if line]
        self.trailers = wire.fields((name, value) for name, _, value in lines)


class Asking:
    """One request, which its model calls back with the outcome.

    `headers`, `pinned`, `start` and `identify` are what a `Split` looks at when several versions answer for a service.
    """

    __slots__ = (
        "_door",
        "_id",
        "_inference",
        "address",
        "asked",
        "data",
        "headers",
        "known",
        "parsed",
        "pinned",
        "route",
        "seconds",
        "start",
    )

    def __init__(self, inference: "Inference", stream: Stream, data: bytes, door: Door, start: float):
        self._inference = inference
        self._door = door
        self._id: bytes | None = None
        self.data = data
        self.address = stream.connection.address
        self.headers: Mapping[bytes, bytes] = stream.head.fields
        self.seconds = stream.head.seconds  # the deadline that the caller set
        self.start = start
        self.parsed = 0.0
        self.pinned: str | None = None  # the variant that could not answer it
        self.route: Route | None = None
        self.known: Known | None = None
        self.asked: tensors.Asked | None = None

    def identify(self) -> bytes:
        """Return the id of the request, which gets one when it came without."""
        if self._id is None:
            given = self.headers.get(b"x-request-id")
            known = given is not None and _ID.fullmatch(given) is not None
            self._id = given if known and given is not None else self._inference.new_id()
        return self._id

    def __call__(self, item: Item) -> None:
        """Answer."""
        route, known, asked, outcome = self.route, self.known, self.asked, item.outcome
        assert route is not None and known is not None and asked is not None  # noqa: S101  (it was submitted)
        error: Exception | None = None
        data = b""
        try:
            if outcome is None or isinstance(outcome, Exception):
                error = outcome or LeptonError("there was no outcome")
            else:
                data = known.writer.write(asked, outcome)
        except Exception as found:  # noqa: BLE001 - whatever it is, the call is answered and the plane goes on
            error = found
        route.replica.release()
        encoded = time.perf_counter()
        if error is not None:
            self.fail(error, item)
            return
        if route.split is not None:
            route.split.take(self._inference, self, route, Ended(200))
        waited = self._door.reply(data, self._trailers())
        route.series.answered(200 if waited else 499, self.start, self.parsed, item, encoded)
        if route.split is not None and isinstance(outcome, Mapping):
            route.split.copy(route, asked.inputs, outcome)
        self._look(route, asked, item, 200, len(data), encoded)

    def fail(self, error: Exception, item: Item | None = None) -> None:
        """Answer with an error, unless another version is asked instead."""
        route, wanted = self.route, HTTP[status.of(error)[0]]
        split = None if route is None else route.split
        if route is not None and split is not None and split.take(self._inference, self, route, Ended(wanted)):
            return
        found = HTTP[self._door.fail(error, self._trailers())]
        if route is not None and item is not None:
            route.series.answered(found, self.start, self.parsed, item, 0.0)
            if self.asked is not None:
                self._look(route, self.asked, item, found, 0, time.perf_counter())
            return
        if route is None:
            self._inference.metrics.of(Labels()).count(found)
        else:
            route.series.refused(found, time.perf_counter() - self.start)
        access = self._inference.watch.access
        if access is not None:
            about = (self.identify(), b"POST", _PATH, self.headers, len(self.data), 0, found)
            access.turned_away(about, None if route is None else route.service, self.start)

    def _look(self, route: Route, asked: tensors.Asked, item: Item, status: int, sent: int, encoded: float) -> None:
        tap = route.tap
        tap.left -= 1
        if tap.left <= 0 or encoded >= tap.due or (tap.every and (status != 200 or b"traceparent" in self.headers)):
            about = (self.identify(), b"POST", _PATH, self.headers, len(self.data), sent, status)
            tap.look(Sight(*about, route, asked.inputs, item, self.start, encoded))

    def _trailers(self) -> bytes:
        id = wire.field(b"x-request-id", self.identify())
        return id if self.known is None else self.known.trailers + id


class InTurn:
    """One message of a conversation, in which an error is a message too."""

    __slots__ = ("_talk", "_turn")

    def __init__(self, talk: Talk, turn: Turn):
        self._talk = talk
        self._turn = turn

    def reply(self, message: bytes, _trailers: bytes) -> bool:
        """Send the answer as ``infer_response``, field 2."""
        return self._turn.say(b"\x12" + tensors.varint(len(message)) + message)

    def fail(self, error: Exception, _trailers: bytes) -> Status:
        """Send the error as ``error_message``, field 1; who may not call here at all is told so at once."""
        found, words = status.of(error)
        if isinstance(error, (Unauthenticated, Denied)):
            self._talk.fail(error)
            return found
        said = words.encode()
        return found if self._turn.say(b"\x0a" + tensors.varint(len(said)) + said) else Status.CANCELLED


class Inference:
    """The two methods that compute. Used on the event loop only."""

    def __init__(self, router: Router, limits: Limits | None = None):
        self._limits = limits or Limits()
        self.metrics = router.metrics
        self.watch = router.watch
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._forms = tensors.Forms()
        self._known: dict[tuple[str, bytes], Known] = {}
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    def one(self, call: Unary, data: bytes) -> None:
        """Answer ``ModelInfer``."""
        self.handle(Asking(self, call.stream, data, call, call.start))

    def several(self, talk: Talk, turn: Turn, data: bytes) -> None:
        """Answer one message of ``ModelStreamInfer``."""
        self.handle(Asking(self, talk.stream, data, InTurn(talk, turn), turn.start))

    def handle(self, asking: Asking) -> None:
        """Read a request and hand it to its model."""
        data = asking.data
        try:
            if self._limits.rate and asking.pinned is None:
                self._limits.take(asking.address)
            form = self._forms.find(data)
            if form is not None:
                route = self._aim(asking, form.name, form.version)
                if form.signature is route.replica.model.signature:
                    asked = self._forms.read(data, form)
                    if asked is not None:
                        self._submit(asking, route, asked)
                        return
            given = decoded(ModelInferRequest, data)
            route = self._aim(asking, given.model_name, given.model_version)
        except Away as away:
            self._wait(asking, away)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the call is answered and the plane goes on
            asking.fail(error)
            return
        self._read(asking, route, given)

    def _wait(self, asking: Asking, away: Away) -> None:
        """Hold a call until the model of its service is in memory, then take it up anew."""
        again, size = (lambda: self.handle(asking)), len(asking.data)
        try:
            self._router.waiting.hold(away, asking.start, size, again, asking.fail)
        except LeptonError as error:
            asking.fail(error)

    def find(self, headers: Mapping[bytes, bytes], name: str, version: str, asking: Asking | None = None) -> Route:
        """Return the route of a service that the caller's key may call."""
        self._router.admit(headers.get(b"authorization"), name)
        return self._router.find(name, version or None, asking)

    def fail(self, call: Unary, error: Exception) -> None:
        """Answer a call that no model computes with an error, and count it."""
        self.metrics.of(Labels()).count(HTTP[call.fail(error)])

    def new_id(self) -> bytes:
        """Return an id for a request that came without one."""
        return f"{self._prefix}-g{next(self._count):x}".encode()

    def _aim(self, asking: Asking, name: str, version: str) -> Route:
        asking.known = asking.route = None
        route = self.find(asking.headers, name, version, asking)
        if isinstance(route.replica, Absent):
            route.replica.hold()  # which raises
        known = self._known.get((route.service, route.head))
        if known is None or known.replica is not route.replica:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[route.service, route.head] = Known(route)
        asking.route, asking.known = route, known
        return route

    def _read(self, asking: Asking, route: Route, given: Any) -> None:
        """Check a request and hand it to its model; a large one is checked in a thread."""
        signature = route.replica.model.signature
        if len(asking.data) <= BUSY_BODY:
            try:
                asked = tensors.read(given, signature)
                if asked.raw:
                    self._forms.learn(asking.data, asked, given, signature)
            except Exception as error:  # noqa: BLE001 - as in `handle`
                asking.fail(error)
            else:
                self._submit(asking, route, asked)
            return
        route.replica.hold()  # so that it stays while the thread reads

        def done(reading: "asyncio.Future[tensors.Asked]") -> None:
            try:
                asked = reading.result()
            except Exception as error:  # noqa: BLE001 - as in `handle`
                asking.fail(error)
            else:
                self._submit(asking, route, asked)
            finally:
                route.replica.release()

        self._loop.run_in_executor(None, tensors.read, given, signature).add_done_callback(done)

    def _submit(self, asking: Asking, route: Route, asked: tensors.Asked) -> None:
        seconds = asked.seconds if asked.seconds is not None else asking.seconds
        if route.split is not None:
            seconds = route.split.patience(route, seconds)
        asking.asked = asked
        asking.parsed = time.perf_counter()
        route.replica.hold()
        try:
            route.replica.submit(asked.inputs, asking, seconds)
        except Exception as error:  # noqa: BLE001 - as in `handle`
            route.replica.release()
            asking.fail(error)
