"""What every request passes first and last: an id for it, the Host it may name, headers for browsers, a net for errors."""

import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leptonai.core.errors import Invalid, LeptonError
from leptonai.server.metrics import Metrics
from leptonai.server.wire import REQUEST_ID, crashed, problem

log = logging.getLogger("leptonai.server")
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


class Guard:
    """Pure ASGI: the first and the last thing that sees a request."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], metrics: Metrics):
        self._app = app
        self._hosts = hosts
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        id = scope[REQUEST_ID] = f"req_{secrets.token_hex(8)}"
        status, done, start = 0, False, time.monotonic()

        async def answer(message: Message) -> None:
            nonlocal status, done
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", id.encode()), *_HEADERS]
            elif message["type"] == "http.response.body":
                done = not message.get("more_body", False)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, answer)
        except LeptonError as error:
            if status:
                log.warning("%s: the answer broke off: %s", id, error.message)
                raise
            await problem(error, id)(scope, receive, answer)
        except Exception:  # the net below all: a user gets an id, the log gets the rest
            log.exception("%s %s failed (%s)", scope["method"], scope["path"][:200], id)
            if not status:
                await problem(crashed(id), id)(scope, receive, answer)
            elif not done:
                raise  # half an answer is out: the connection is cut, so that nobody takes it for a whole one
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.observe(scope["method"], route, status, time.monotonic() - start)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        # A web page that made its own name point here (DNS rebinding) still sends that name.
        if "*" not in self._hosts and name.strip("[]").lower() not in self._hosts:
            raise Invalid(f"this server does not answer to the name {name[:100]!r}: start it with --name for that name")
        if b"content-length" in headers and b"transfer-encoding" in headers:
            raise Invalid("a request has either Content-Length or Transfer-Encoding, not both")
        if "\0" in scope["path"]:
            raise Invalid("a path holds no NUL")
