"""The HTTP front: it reads a request, asks the router, answers, and knows the HTTP statuses.

No framework stands in the way of a request, and no coroutine: at these speeds they would cost more than the model. A request
is read and queued in one go; the batcher calls back when its outputs are there.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import httptools
import orjson

from leptonai import __version__
from leptonai.core.errors import (
    Busy,
    Corrupt,
    Denied,
    Invalid,
    LeptonError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from leptonai.core.nouns import FeatureType
from leptonai.serving.plane import body as json_body
from leptonai.serving.plane import images, v2
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.http import BODY_LIMIT, Answer, Call
from leptonai.serving.plane.metrics import Labels
from leptonai.serving.plane.router import Route, Router

BUSY_BODY = 256 * 2**10  # a larger body is read in a thread, so that it holds up nobody else
TARGETS = 4096  # URLs whose parts are remembered

_STATUS = {
    TooLarge: 413, NotFound: 404, Unauthenticated: 401, Denied: 403, Busy: 503, Unavailable: 503, Unsupported: 422,
    Invalid: 422, Corrupt: 500,
}  # fmt: skip
_TITLES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    413: "Content Too Large", 415: "Unsupported Media Type", 421: "Misdirected Request", 422: "Unprocessable Content",
    500: "Internal Server Error", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip
_JSON = b"content-type: application/json\r\n"
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_LOCAL = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_OUR_MEDIA = (b"", b"application/json", b"application/x-www-form-urlencoded", b"text/plain")  # what curl sends untold
_MILLISECONDS = re.compile(rb"[1-9]\d{0,8}")


class Refused(Exception):
    """A request that HTTP itself has a status for. `head`: more header lines."""

    def __init__(self, status: int, message: str, head: bytes = b""):
        super().__init__(message)
        self.status = status
        self.message = message
        self.head = head


class Pending:
    """A request whose model computes."""

    __slots__ = ("asked", "call", "front", "parsed", "route")

    def __init__(self, front: "Front", call: Call, route: Route, asked: v2.Request | None, parsed: float):
        self.front = front
        self.call = call
        self.route = route
        self.asked = asked  # of the protocol; None: rows
        self.parsed = parsed

    def __call__(self, item: Item) -> None:
        """Answer."""
        route, call, outcome = self.route, self.call, item.outcome
        try:
            if isinstance(outcome, dict):
                if self.asked is not None:
                    written = route.writer.write(self.asked, outcome)
                    answer = Answer(200, written.body, written.head + route.head)
                else:
                    replica = route.replica
                    found = replica.answers.predictions(outcome)
                    said = {"predictions": found, "model": replica.model.name, "version": replica.model.version}
                    answer = Answer(200, orjson.dumps(said, option=_NUMPY), _JSON + route.head)
                _observe(call, route, self.parsed, item)
            else:
                answer = self.front.failed(call, outcome or LeptonError("there was no outcome"), route)
        except Exception as error:  # noqa: BLE001 - as in `handle`
            answer = self.front.failed(call, error, route)
        finally:
            route.replica.release()
        self.front.send(call, route, answer)


class Front:
    """The handler of the plane's connections. `local`: it listens on the loopback address, so only local names may stand in
    ``Host``: that keeps a web page whose name is made to point at this machine (DNS rebinding) from using the models.
    """

    def __init__(self, router: Router, *, local: bool = True):
        self._router = router
        self._local = local
        self._loop = asyncio.get_running_loop()
        self._targets: dict[bytes, tuple[str, ...]] = {}
        self._hosts: set[bytes] = set()  # that were looked at, and are right

    def handle(self, call: Call) -> None:
        """Answer one request, now or later; whatever goes wrong is an answer too."""
        try:
            answer = self._answer(call)
        except Exception as error:  # noqa: BLE001 - a caller never sees a traceback; its kind is enough to find it
            answer = self.failed(call, error)
        if answer is not None:
            self.send(call, None, answer)

    def send(self, call: Call, route: Route | None, answer: Answer) -> None:
        """Send and count an answer."""
        call.answer(answer)
        if route is not None:
            route.series.count(answer.status)
            route.series.stages["total"].observe(time.perf_counter() - call.start)
        elif answer.status >= 400:
            self._router.metrics.of(Labels()).count(answer.status)

    # ---------------------------------------------------------------------------------------------- routing

    def _answer(self, call: Call) -> Answer | None:
        self._admit(call)
        match self._parts(call):
            case ("v2", "models", name, *rest):
                version = None
                if rest[:1] == ["versions"] and len(rest) > 1:
                    version, rest = rest[1], rest[2:]
                return self._model(call, name, version, rest)
            case ("services", name, "predict"):
                _allow(call, b"POST")
                self._begin(call, self._router.find(name), None)
                return None
            case ("v2",) | ("v2", ""):
                _allow(call, b"GET")
                return _json({"name": "leptonai", "version": __version__, "extensions": ["binary_tensor_data"]})
            case ("v2", "health", "live"):
                _allow(call, b"GET")
                return _json({"live": True})
            case ("v2", "health", "ready"):
                _allow(call, b"GET")
                ready = self._router.ready
                return _json({"ready": ready}, 200 if ready else 503)
            case ("metrics",):
                _allow(call, b"GET")
                text = self._router.metrics.text().encode()
                return Answer(200, text, b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n")
        raise Refused(404, "there is nothing at this path; try /v2, /v2/models/NAME or /services/NAME/predict")

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

    def _parts(self, call: Call) -> tuple[str, ...]:
        """Return the parts of the path."""
        parts = self._targets.get(call.url)
        if parts is None:
            parts = _split(call.url)
            if len(self._targets) < TARGETS:
                self._targets[call.url] = parts
        return parts

    def _model(self, call: Call, name: str, version: str | None, rest: list[str]) -> Answer | None:
        match rest:
            case ["infer"]:
                _allow(call, b"POST")
                route = self._router.find(name, version)
                self._begin(call, route, _json_length(call))
                return None
            case ["ready"]:
                _allow(call, b"GET")
                ready = self._router.find(name, version).replica.ready
                return _json({"name": name, "ready": ready}, 200 if ready else 503)
            case []:
                _allow(call, b"GET")
                route = self._router.find(name, version)
                platform = "onnx_onnxv1" if "model.onnx" in route.replica.model.files else route.replica.model.framework
                return _json(v2.metadata(name, [route.version], platform, route.replica.model.signature))
        raise Refused(404, "there is nothing at this path; models have /infer and /ready")

    # ------------------------------------------------------------------------------------------- inference

    def _begin(self, call: Call, route: Route, json_length: int | None) -> None:
        """Read the request and hand it to its model; a large one is read in a thread."""
        route.replica.hold()
        read: Callable[[], tuple[Mapping[str, Any], v2.Request | None]]
        if self._is_infer(call):
            read = lambda: _infer(call, route, json_length)  # noqa: E731
        else:
            read = lambda: (_rows(call, call.body, route), None)  # noqa: E731
        if len(call.body) > BUSY_BODY:
            reading = self._loop.run_in_executor(None, read)
            reading.add_done_callback(lambda done: self._submit(call, route, done.result))
        else:
            self._submit(call, route, read)

    def _is_infer(self, call: Call) -> bool:
        return self._parts(call)[0] == "v2"

    def _submit(
        self, call: Call, route: Route, read: Callable[[], tuple[Mapping[str, Any], v2.Request | None]]
    ) -> None:
        try:
            inputs, asked = read()
            seconds = _seconds(call)
            if asked is not None and asked.seconds is not None:
                seconds = asked.seconds
            route.replica.submit(inputs, Pending(self, call, route, asked, time.perf_counter()), seconds)
        except Exception as error:  # noqa: BLE001 - as in `handle`
            route.replica.release()
            self.send(call, route, self.failed(call, error, route))

    def failed(self, call: Call, error: Exception, route: Route | None = None) -> Answer:
        """Return what a request is told of an error."""
        head = b"" if route is None else route.head
        if isinstance(error, Refused):
            return self._problem(call, error.status, LeptonError(error.message), error.head + head)
        if not isinstance(error, LeptonError):
            return self._problem(call, 500, LeptonError(f"the serving plane failed: {type(error).__name__}"), head)
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
        if isinstance(error, Unavailable) and error.about.get("limit") == "deadline":
            status = 504
        if status == 422 and call.url.startswith(b"/v2"):
            status = 400  # the protocol knows no other
        if status == 503:
            head += b"retry-after: %d\r\n" % max(1, round(error.retry_after or 1))
        if status == 401:
            head += b"www-authenticate: Bearer\r\n"
        return self._problem(call, status, error, head)

    def _problem(self, call: Call, status: int, error: LeptonError, head: bytes) -> Answer:
        """Return an error in the words of the path: ``{"error"}`` of the protocol, else RFC 9457."""
        if call.url.startswith(b"/v2"):
            return Answer(status, orjson.dumps({"error": error.message}), _JSON + head, close=status == 413)
        said: Mapping[str, Any] = {
            "type": "about:blank",
            "title": _TITLES[status],
            "status": status,
            "detail": error.message,
            **error.to_dict(),
            "error": error.message,
        }
        kind = b"content-type: application/problem+json\r\n"
        return Answer(status, orjson.dumps(said), kind + head, close=status == 413)


def _split(url: bytes) -> tuple[str, ...]:
    try:
        path = httptools.parse_url(url).path
    except httptools.HttpParserInvalidURLError:
        raise Refused(400, "the request's target is no URL") from None
    return tuple(unquote((path or b"/").decode("latin-1")).split("/")[1:])


def _json_length(call: Call) -> int | None:
    """Return how long the JSON is in a request of the binary extension."""
    given = call.headers.get(b"inference-header-content-length")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18 or int(given) > len(call.body):
        raise Refused(400, "Inference-Header-Content-Length must be a number of bytes, at most those of the body")
    return int(given)


def _seconds(call: Call) -> float | None:
    """Return the deadline that the caller set."""
    given = call.headers.get(b"x-request-timeout-ms")
    if given is None:
        return None
    if not _MILLISECONDS.fullmatch(given):
        raise Refused(400, "X-Request-Timeout-Ms must be a whole number of milliseconds")
    return int(given) / 1000


def _infer(call: Call, route: Route, json_length: int | None) -> tuple[Mapping[str, Any], v2.Request]:
    signature = route.replica.model.signature
    if json_length is None:
        asked = route.replica.quick.request(call.body) if len(call.body) <= BUSY_BODY else None
        if asked is None:
            asked = v2.request(_loaded(call.body), signature)
    else:
        length = json_length

        def strict() -> v2.Request:
            return v2.request(_loaded(call.body[:length]), signature, memoryview(call.body)[length:])

        asked = route.replica.quick.raw(call.body, length, strict) if len(call.body) <= BUSY_BODY else strict()
    return asked.inputs, asked


def _rows(call: Call, data: bytes, route: Route) -> dict[str, Any]:
    """Return the inputs that the body of a friendly request holds: rows, or one image file."""
    media = call.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media.startswith(b"image/") or media == b"application/octet-stream":
        specs = route.replica.model.signature.inputs
        if len(specs) != 1 or specs[0].type is not FeatureType.IMAGE:
            columns = ", ".join(spec.name for spec in specs[:8])
            raise Refused(
                415, f'this model takes rows, not an image: send {{"rows": [{{…}}]}} with the columns {columns}'
            )
        return {specs[0].name: images.decode(data, specs[0])[None]}
    if media not in _OUR_MEDIA:
        raise Refused(415, "send rows as application/json, or an image file as image/png, image/jpeg …")
    asked = _loaded(data)
    if type(asked) is not dict or "rows" not in asked:
        raise Invalid('the body must be an object such as {"rows": [{"column": value}]}')
    if len(asked) > 1:
        extra = ", ".join(repr(name[:80]) for name in asked if name != "rows")
        raise Invalid(f"the body has fields that are not known: {extra[:300]}; it holds 'rows' only")
    return route.replica.columns.inputs(asked["rows"])


def _loaded(data: bytes) -> Any:
    try:
        return json_body.load(data)
    except Invalid as error:
        raise Refused(400, error.message) from None


def _observe(call: Call, route: Route, parsed: float, item: Item) -> None:
    stages = route.series.stages
    stages["parse"].observe(parsed - call.start)
    stages["queue"].observe(item.taken - item.queued)
    stages["model"].observe(item.done - item.taken)
    stages["encode"].observe(time.perf_counter() - item.done)
    if item.first:
        route.series.batch.observe(item.batch)


def _allow(call: Call, method: bytes) -> None:
    if call.method != method and not (call.method == b"HEAD" and method == b"GET"):
        given = call.method.decode("latin-1")[:20]
        raise Refused(405, f"use {method.decode()} here, not {given}", b"allow: %s\r\n" % method)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, orjson.dumps(value))
