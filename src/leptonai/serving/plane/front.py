"""The HTTP front: one bare ASGI application. It reads, asks the router, answers, and knows the HTTP statuses.

No framework stands in the way of a request: at these speeds its routing and validation would cost more than the model.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

import orjson

from leptonai import __version__
from leptonai.core.errors import Busy, Corrupt, Invalid, LeptonError, NotFound, TooLarge, Unavailable, Unsupported
from leptonai.core.nouns import FeatureType
from leptonai.serving.plane import body as json_body
from leptonai.serving.plane import images, v2
from leptonai.serving.plane.batcher import Item
from leptonai.serving.plane.metrics import Labels
from leptonai.serving.plane.router import Route, Router

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_LIMIT = 16 * 2**20
BUSY_BODY = 256 * 2**10  # a larger body is read in a thread, so that it holds up nobody else

_STATUS = {TooLarge: 413, NotFound: 404, Busy: 503, Unavailable: 503, Unsupported: 422, Invalid: 422, Corrupt: 500}
_TITLES = {400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large", 415: "Unsupported Media Type",
           421: "Misdirected Request", 422: "Unprocessable Content", 500: "Internal Server Error", 503: "Service Unavailable",
           504: "Gateway Timeout"}  # fmt: skip
_JSON = b"application/json"
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_LOCAL = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_OUR_MEDIA = (
    b"",
    _JSON,
    b"application/x-www-form-urlencoded",
    b"text/plain",
)  # what curl sends when it is told nothing


class Refused(Exception):
    """A request that HTTP itself has a status for."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class Answer(NamedTuple):
    """What is sent."""

    status: int
    body: bytes
    media: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Call:
    """One request while it is worked on."""

    __slots__ = ("headers", "method", "parts", "receive", "route", "start", "version")

    def __init__(self, scope: Scope, receive: Receive):
        self.start = time.perf_counter()
        self.method: str = scope["method"]
        self.version: str = scope["http_version"]
        self.parts: list[str] = scope["path"].split("/")[1:]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        self.route: Route | None = None

    async def body(self) -> bytes:
        """Return the body. Raises `TooLarge` as soon as it is; what still comes is thrown away, so that the answer arrives."""
        announced = self.headers.get(b"content-length", b"0")
        size, chunks = 0, []
        over = announced.isdigit() and int(announced[:20]) > BODY_LIMIT
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "the request ended in the middle of its body")
            size += len(message["body"])
            over = over or size > BODY_LIMIT
            if not over:
                chunks.append(message["body"])
            if not message["more_body"] or size > 4 * BODY_LIMIT:
                break
        if over:
            raise TooLarge(f"the body is larger than {BODY_LIMIT} bytes, which is the limit: send fewer rows at once")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class Front:
    """The application. `local`: the plane listens on the loopback address, so only local names may stand in ``Host``.

    That check keeps a web page whose name is made to point at this machine (DNS rebinding) from using the models.
    """

    def __init__(self, router: Router, *, local: bool = True):
        self._router = router
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong is an answer too."""
        if scope["type"] != "http":
            return
        call = Call(scope, receive)
        try:
            answer = await self._answer(call)
        except Refused as error:
            answer = _problem(call, error.status, LeptonError(error.message), error.headers)
        except LeptonError as error:
            answer = _failed(call, error)
        except Exception as error:  # noqa: BLE001 - a caller never sees a traceback; its kind is enough to find it
            answer = _problem(call, 500, LeptonError(f"the serving plane failed: {type(error).__name__}"))
        await _send(call, answer, send)
        route = call.route
        series = route.series if route is not None else self._router.metrics.of(Labels())
        if route is not None or answer.status >= 400:
            series.count(answer.status)
        if route is not None:
            series.stages["total"].observe(time.perf_counter() - call.start)

    async def _answer(self, call: Call) -> Answer:
        host = call.headers.get(b"host")
        if host is None and call.version == "1.1":
            raise Refused(400, "the request has no Host header")
        if self._local and host is not None and not _LOCAL.fullmatch(host):
            raise Refused(421, "this plane listens on the loopback address: call it as localhost or 127.0.0.1")
        match call.parts:
            case ["services", name, "predict"]:
                _allow(call, "POST")
                return await self._predict(call, name)
            case ["v2", "models", name, *rest]:
                version = None
                if rest[:1] == ["versions"] and len(rest) > 1:
                    version, rest = rest[1], rest[2:]
                return await self._model(call, name, version, rest)
            case ["v2"] | ["v2", ""]:
                _allow(call, "GET")
                return _json({"name": "leptonai", "version": __version__, "extensions": []})
            case ["v2", "health", "live"]:
                _allow(call, "GET")
                return _json({"live": True})
            case ["v2", "health", "ready"]:
                _allow(call, "GET")
                ready = self._router.ready
                return _json({"ready": ready}, 200 if ready else 503)
            case ["metrics"]:
                _allow(call, "GET")
                return Answer(200, self._router.metrics.text().encode(), b"text/plain; version=0.0.4; charset=utf-8")
        raise Refused(404, "there is nothing at this path; try /v2, /v2/models/NAME or /services/NAME/predict")

    async def _model(self, call: Call, name: str, version: str | None, rest: list[str]) -> Answer:
        match rest:
            case ["infer"]:
                _allow(call, "POST")
                return await self._infer(call, name, version)
            case ["ready"]:
                _allow(call, "GET")
                ready = self._router.find(name, version).replica.ready
                return _json({"name": name, "ready": ready}, 200 if ready else 503)
            case []:
                _allow(call, "GET")
                route = self._router.find(name, version)
                platform = "onnx_onnxv1" if "model.onnx" in route.replica.model.files else route.replica.model.framework
                return _json(v2.metadata(name, [route.version], platform, route.replica.model.signature))
        raise Refused(404, "there is nothing at this path; models have /infer and /ready")

    async def _infer(self, call: Call, name: str, version: str | None) -> Answer:
        data = await call.body()
        route = call.route = self._router.find(name, version)
        replica = route.replica
        replica.hold()
        try:
            asked = await _aside(data, lambda: v2.request(_loaded(data), replica.model.signature))
            parsed = time.perf_counter()
            item = replica.submit(asked.inputs)
            outputs = await item.future
            wanted = {output: outputs[output] for output in asked.outputs}
            answer = v2.response(name, route.version, asked.id, wanted, replica.model.signature.outputs)
            made = Answer(200, orjson.dumps(answer, option=_NUMPY), _JSON, route.headers)
            _observe(call, route, parsed, item)
            return made
        finally:
            replica.release()

    async def _predict(self, call: Call, name: str) -> Answer:
        data = await call.body()
        route = call.route = self._router.find(name)
        replica = route.replica
        replica.hold()
        try:
            inputs = await _aside(data, lambda: _rows(call, data, route))
            parsed = time.perf_counter()
            item = replica.submit(inputs)
            outputs = await item.future
            model = replica.model
            found = replica.answers.predictions(outputs)
            answer = {"predictions": found, "model": model.name, "version": model.version}
            made = Answer(200, orjson.dumps(answer, option=_NUMPY), _JSON, route.headers)
            _observe(call, route, parsed, item)
            return made
        finally:
            replica.release()


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


async def _aside(data: bytes, work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work) if len(data) > BUSY_BODY else work()


def _observe(call: Call, route: Route, parsed: float, item: Item) -> None:
    stages = route.series.stages
    stages["parse"].observe(parsed - call.start)
    stages["queue"].observe(item.taken - item.queued)
    stages["model"].observe(item.done - item.taken)
    stages["encode"].observe(time.perf_counter() - item.done)
    if item.first:
        route.series.batch.observe(item.batch)


def _allow(call: Call, method: str) -> None:
    if call.method != method and not (call.method == "HEAD" and method == "GET"):
        raise Refused(405, f"use {method} here, not {call.method[:20]}", (b"allow", method.encode()))


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, orjson.dumps(value))


def _failed(call: Call, error: LeptonError) -> Answer:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    if isinstance(error, Unavailable) and error.about.get("limit") == "deadline":
        status = 504
    if status == 422 and call.parts[0] == "v2":
        status = 400  # the protocol knows no other
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if status == 503:
        headers = ((b"retry-after", str(max(1, round(error.retry_after or 1))).encode()),)
    return _problem(call, status, error, headers)


def _problem(call: Call, status: int, error: LeptonError, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    """Return an error in the words of the path: ``{"error"}`` of the protocol, else RFC 9457."""
    if status == 413:
        headers += ((b"connection", b"close"),)
    if call.route is not None:
        headers += call.route.headers
    if call.parts[0] == "v2":
        return Answer(status, orjson.dumps({"error": error.message}), _JSON, headers)
    said: Mapping[str, Any] = {
        "type": "about:blank",
        "title": _TITLES[status],
        "status": status,
        "detail": error.message,
        **error.to_dict(),
        "error": error.message,
    }
    return Answer(status, orjson.dumps(said), b"application/problem+json", headers)


async def _send(call: Call, answer: Answer, send: Send) -> None:
    given = call.headers.get(b"x-request-id", b"")
    headers = [
        (b"content-type", answer.media),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-request-id", given if _ID.fullmatch(given) else secrets.token_hex(8).encode()),
        *answer.headers,
    ]
    trace = call.headers.get(b"traceparent")
    if trace is not None and _TRACE.fullmatch(trace):
        headers.append((b"traceparent", trace))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
