"""The HTTP front: it reads a request, asks the router, answers.

No framework stands in the way of a request, and no coroutine: at these speeds they would cost more than the model. A request
is read and queued in one go; the batcher calls back when its outputs are there.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import httptools
import orjson

from leptonai import __version__
from leptonai.core import settings
from leptonai.core.errors import Denied, LeptonError, TooLarge
from leptonai.serving.plane import cors, events, feedback, readers, told
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.call import Answer, Call
from leptonai.serving.plane.http import BODY_LIMIT
from leptonai.serving.plane.metrics import Labels
from leptonai.serving.plane.problems import Refused, failed
from leptonai.serving.plane.readers import Read, Reader
from leptonai.serving.plane.recent import Sight
from leptonai.serving.plane.remembered import Answers, digest
from leptonai.serving.plane.router import Route, Router
from leptonai.serving.plane.together import joins
from leptonai.serving.plane.waiting import Away

TARGETS = 4096  # URLs whose parts are remembered

_LOCAL = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_TEXT = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"


@dataclass(eq=False)
class Known:
    """What the head of a request means, for the next one with the same head; it holds in one `Router.epoch`."""

    epoch: Any
    service: str
    version: str | None
    reader: Reader
    ends: float | None  # when the key of the caller does, in seconds of the wall clock
    extra: bytes  # as of `Call`


class Pending:
    """A request whose model computes."""

    __slots__ = ("call", "front", "parsed", "read", "route")

    def __init__(self, front: "Front", call: Call, route: Route, read: Read):
        self.front = front
        self.call = call
        self.route = route
        self.read = read
        self.parsed = time.perf_counter()

    def __call__(self, item: Item) -> None:
        """Answer."""
        route, call, outcome = self.route, self.call, item.outcome
        try:
            if outcome is None or isinstance(outcome, Exception):
                answer = failed(call, outcome or LeptonError("there was no outcome"), route.head)
            else:
                written = self.read.write(outcome)
                answer = Answer(200, written.body, written.head + route.head)
        except Exception as error:  # noqa: BLE001 - as in `handle`
            answer = failed(call, error, route.head)
        route.replica.release()
        encoded = time.perf_counter()
        if route.split is not None and route.split.take(self.front, call, route, answer):
            return
        call.answer(answer)
        route.series.answered(answer.status, call.start, self.parsed, item, encoded)
        if route.split is not None and isinstance(outcome, Mapping):
            route.split.copy(route, self.read.inputs, outcome)
        tap = route.tap
        tap.left -= 1
        if (
            tap.left <= 0
            or encoded >= tap.due
            or (tap.every and (answer.status != 200 or b"traceparent" in call.headers))
        ):
            size, sent = len(call.body), len(answer.body)
            asked = (call.id, call.method, call.url, call.headers, size, sent, answer.status)
            tap.look(Sight(*asked, route, self.read.inputs, item, call.start, encoded))


class Front:
    """The handler of the plane's connections. `local`: it listens on the loopback address, so only local names may stand in
    ``Host``: that keeps a web page whose name is made to point at this machine (DNS rebinding) from using the models.
    """

    def __init__(self, router: Router, *, local: bool = True, origins: frozenset[bytes] = frozenset()):
        """`origins`: of web pages that may call, see `cors`."""
        self._router = router
        self._origins = origins
        self._local = local
        self._metrics_key = not local or settings.get("metrics_key") == "yes"
        self._loop = asyncio.get_running_loop()
        self._targets: dict[bytes, list[str]] = {}
        self._hosts: set[bytes] = set()  # that were looked at, and are right

    def handle(self, call: Call) -> None:
        """Answer one request, now or later; whatever goes wrong is an answer too."""
        known: Known | None = call.known
        try:
            if (
                known is not None
                and known.epoch is self._router.epoch
                and (known.ends is None or time.time() < known.ends)
            ):
                call.extra = known.extra
                route = self._router.find(known.service, known.version, call)
                if known.reader is readers.infer and joins(call, route, self, self._loop.call_soon):
                    return
                answer = self._begin(call, route, known.reader)
            else:
                answer = self._answer(call)
        except Away as away:
            answer = self._wait(call, away)
        except Exception as error:  # noqa: BLE001 - whatever it is, the request is answered and the plane goes on
            answer = failed(call, error)
        if answer is not None:
            self.send(call, None, answer)

    def alone(self, call: Call) -> None:
        """Take a request up that cannot go with others."""
        call.alone = True
        self.handle(call)

    def _wait(self, call: Call, away: Away) -> Answer | None:
        """Hold a call until the model of its service is in memory, then take it up anew."""

        def fail(error: LeptonError) -> None:
            self.send(call, None, failed(call, error))

        try:
            self._router.waiting.hold(away, call.start, len(call.body), lambda: self.handle(call), fail)
        except LeptonError as error:
            return failed(call, error)
        return None

    def send(self, call: Call, route: Route | None, answer: Answer) -> None:
        """Send and count an answer that no model computed."""
        if route is not None and route.split is not None and route.split.take(self, call, route, answer):
            return
        call.answer(answer)
        if route is not None:
            route.series.refused(answer.status, time.perf_counter() - call.start)
        elif answer.status >= 400:
            self._router.metrics.of(Labels()).count(answer.status)
        access = self._router.watch.access
        if access is not None:
            access.refused(call, None if route is None else route.service, answer)

    # ---------------------------------------------------------------------------------------------- routing

    def _answer(self, call: Call) -> Answer | None:
        self._admit(call)
        call.extra = cors.consent(call, self._origins)
        if (asked := cors.preflight(call, self._origins)) is not None:
            return asked
        match self._parts(call):
            case ["v2", *rest]:
                return self._protocol(call, rest)
            case ["services", name, "predict"]:
                return self._infer(call, name, None, readers.rows)
            case ["services", name, "feedback"]:
                return feedback.take(call, self._find(call, name))
            case ["services", name, "stream"]:
                _allow(call, b"POST")
                events.begin(call, self._find(call, name), self, self._router.watch.access)
                return None
            case ["v1", "chat", "completions"] | ["v1", "completions" | "embeddings"]:
                self._text(call)
                return None
            case ["v1", "models", *rest]:
                return self._first_protocol(call, rest)
            case ["invocations"]:
                return self._begin(call, self._only_service(call), readers.invocations)
            case ["ping"]:
                _allow(call, b"GET")
                return _json({}, 200 if self._router.ready else 503)
            case ["metrics"]:
                _allow(call, b"GET")
                if self._metrics_key:
                    self._router.keys.check_metrics(call.headers.get(b"authorization"))
                return Answer(200, self._router.metrics.text().encode(), _TEXT)
        raise Refused(404, "there is nothing at this path; try /v2, /v2/models/NAME or /services/NAME/predict")

    def _find(self, call: Call, name: str, version: str | None = None) -> Route:
        """Return the route of a service that the caller's key may call."""
        self._router.admit(call.headers.get(b"authorization"), name)
        return self._router.find(name, version, call)

    def _allowed(self, call: Call) -> list[Route]:
        """Return the routes that the caller's key may call."""
        header = call.headers.get(b"authorization")
        found = []
        for route in self._router.routes:
            with contextlib.suppress(Denied):
                self._router.admit(header, route.service)
                found.append(route)
        return found

    def _admit(self, call: Call) -> None:
        host = call.headers.get(b"host")
        if host not in self._hosts:
            if host is None and call.version == "1.1":
                raise Refused(400, "the request has no Host header")
            if self._local and host is not None and not _LOCAL.fullmatch(host):
                raise Refused(421, "this plane listens on the loopback address: call it as localhost or 127.0.0.1")
            if host is not None and len(self._hosts) < 64:
                self._hosts.add(host)
        if call.repeated is not None:
            raise Refused(400, f"the header {call.repeated.decode('latin-1')} is given twice")
        if call.too_large:
            raise TooLarge(f"the body is larger than {BODY_LIMIT} bytes, which is the limit: send fewer rows at once")

    def _parts(self, call: Call) -> list[str]:
        """Return the parts of the path; nobody changes them."""
        parts = self._targets.get(call.url)
        if parts is None:
            parts = _split(call.url)
            if len(self._targets) < TARGETS:
                self._targets[call.url] = parts
        return parts

    def _protocol(self, call: Call, rest: list[str]) -> Answer | None:
        """Answer by the Open Inference Protocol."""
        match rest:
            case ["models", name, "infer"]:
                return self._infer(call, name, None, readers.infer)
            case ["models", name, "versions", version, "infer"]:
                return self._infer(call, name, version, readers.infer)
            case ["models", "stats"]:
                _allow(call, b"GET")
                return _json(told.statistics(self._router, self._allowed(call)))
            case ["models", name, "versions", version, *more] if len(more) < 2:
                return self._told(call, self._find(call, name, version), more)
            case ["models", name, *more] if len(more) < 2:
                return self._told(call, self._find(call, name), more)
            case ["repository", "models", name, "load" | "unload" as op]:
                return self._manage(call, name, op)
            case ["repository", "index"]:
                _allow(call, b"POST")
                ready = readers.only_ready(call)
                return _json([told.indexed(r) for r in self._allowed(call) if r.replica.ready or not ready])
            case [] | [""]:
                _allow(call, b"GET")
                return _json({"name": "leptonai", "version": __version__, "extensions": told.EXTENSIONS})
            case ["health", "live"]:
                _allow(call, b"GET")
                return _json({"live": True})
            case ["health", "ready"]:
                _allow(call, b"GET")
                return _json({"ready": self._router.ready}, 200 if self._router.ready else 503)
        raise Refused(404, "there is nothing at this path; models have /infer and /ready")

    def _manage(self, call: Call, name: str, op: str) -> Answer:
        """Load the model of a service, or unload it; the answer is due when that is done."""
        _allow(call, b"POST")
        self._router.keys.manage(call.headers.get(b"authorization"), name)
        if not self._router.manage(name, op):
            raise Away(name, op)
        return _json({})

    def _told(self, call: Call, route: Route, rest: list[str]) -> Answer:
        """Say what a model takes and gives, whether it is ready, and Triton's further questions."""
        match rest:
            case ["ready"]:
                ready = route.replica.ready
                said, status = {"name": route.service, "ready": ready}, 200 if ready else 503
            case ["config"]:
                said, status = told.configuration(route), 200
            case ["stats"]:
                said, status = told.statistics(self._router, [route]), 200
            case []:
                said, status = told.described(route), 200
            case _:
                raise Refused(404, "there is nothing at this path; models have /infer, /ready, /config and /stats")
        _allow(call, b"GET")
        return _json(said, status)

    def _first_protocol(self, call: Call, rest: list[str]) -> Answer | None:
        """Answer by KServe's V1; its list of models is OpenAI's as well."""
        match rest:
            case [name] if name.endswith(":predict"):
                return self._infer(call, name.removesuffix(":predict"), None, readers.instances)
            case [name] if name:
                _allow(call, b"GET")
                return _json(told.named(self._find(call, name)))
            case [] | [""]:
                _allow(call, b"GET")
                named = [told.named(route) for route in self._allowed(call)]
                return _json({"object": "list", "data": named, "models": [one["name"] for one in named]})
        raise Refused(404, "there is nothing at this path; try /v1/models/NAME:predict")

    def _only_service(self, call: Call) -> Route:
        """Return the service of a path that names none: the one there is, or the one that a header names."""
        given = call.headers.get(b"x-leptonai-service")
        if given is not None:
            return self._find(call, given.decode("latin-1"))
        routes = self._allowed(call)
        if len(routes) != 1:
            names = ", ".join(route.service for route in routes[:20]) or "none yet"
            raise Refused(404, f"say which service is meant with the header X-Leptonai-Service; there are: {names}")
        return routes[0]

    def _text(self, call: Call) -> None:
        """Answer what OpenAI's clients ask."""
        from leptonai.serving.plane import openai  # a plane without models of text does not need it

        openai.take(call, "/".join(self._parts(call)[1:]), self._find, self.send)

    # ------------------------------------------------------------------------------------------- inference

    def _infer(self, call: Call, name: str, version: str | None, reader: Reader) -> Answer | None:
        """Answer a request whose service its path names: one with the same head finds its way without all this."""
        epoch = self._router.epoch
        route = self._find(call, name, version)
        ends = self._router.keys.ends(call.headers.get(b"authorization"))
        call.known = Known(epoch, name, version, reader, ends, call.extra)
        return self._begin(call, route, reader)

    def _begin(self, call: Call, route: Route, reader: Reader) -> Answer | None:
        """Read the request and hand it to its model, whose outputs are the answer; a large one is read in a thread."""
        _allow(call, b"POST")
        read = reader
        if route.answers is not None:
            known = digest(route.replica.model.id, reader, call)
            if (found := route.answers.recall(known, route.head)) is not None:
                route.series.hits += 1
                self.send(call, route, found)
                return None
            read = partial(_remembering, reader, route.answers, known)
        route.replica.hold()
        if readers.is_long(call, reader):
            reading = self._loop.run_in_executor(None, read, call, route)
            reading.add_done_callback(lambda done: self._submit(call, route, lambda *_: done.result()))
        else:
            self._submit(call, route, read)
        return None

    def _submit(self, call: Call, route: Route, reader: Reader) -> None:
        try:
            read = reader(call, route)
            seconds = read.seconds if route.split is None else route.split.patience(route, read.seconds)
            route.replica.submit(read.inputs, Pending(self, call, route, read), seconds)
        except Exception as error:  # noqa: BLE001 - as in `handle`
            route.replica.release()
            self.send(call, route, failed(call, error, route.head))


def _remembering(reader: Reader, answers: Answers, known: bytes, call: Call, route: Route) -> Read:
    """Read a request whose answer is to be remembered."""
    route.series.misses += 1
    read = reader(call, route)
    return Read(read.inputs, answers.keeping(known, read.write), read.seconds)


def _split(url: bytes) -> list[str]:
    try:
        path = httptools.parse_url(url).path
    except httptools.HttpParserInvalidURLError:
        raise Refused(400, "the request's target is no URL") from None
    return unquote((path or b"/").decode("latin-1")).split("/")[1:]


def _allow(call: Call, method: bytes) -> None:
    if call.method != method and not (call.method == b"HEAD" and method == b"GET"):
        given = call.method.decode("latin-1")[:20]
        raise Refused(405, f"use {method.decode()} here, not {given}", b"allow: %s\r\n" % method)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, orjson.dumps(value))
