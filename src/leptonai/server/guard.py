"""What every request passes first: an id for it, the Host it may name, caps on its size, and a last net for errors."""

import logging
import secrets
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leptonai.core.errors import Invalid, LeptonError, TooLarge
from leptonai.server.wire import problem

log = logging.getLogger("leptonai.server")
JSON_BYTES = 8 << 20
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_UPLOADS = ("/api/v1/blobs",)  # these cap their bodies themselves, while they stream


class Guard:
    """Pure ASGI: the first and the last thing that sees a request."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]):
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id = f"req_{secrets.token_hex(8)}"
        scope["leptonai_request_id"] = id
        began = False

        async def answer(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message["headers"] = [*message.get("headers", []), (b"x-request-id", id.encode()), *_HEADERS]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._capped(scope, receive), answer)
        except LeptonError as error:
            if began:
                raise
            await problem(error, id)(scope, receive, answer)
        except Exception:  # the net below all: a user gets an id, the log gets the rest
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], id)
            if began:
                raise
            said = LeptonError(f"something went wrong inside the server; its log has the reason under {id}")
            await problem(said, id)(scope, receive, answer)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
        # A web page that made its own name point here (DNS rebinding) still sends that name.
        if "*" not in self._hosts and name.lower() not in self._hosts:
            raise Invalid(f"this server does not answer to the name {name[:100]!r}: start it with --host that name")
        if b"content-length" in headers and b"transfer-encoding" in headers:
            raise Invalid("a request has either Content-Length or Transfer-Encoding, not both")

    def _capped(self, scope: Scope, receive: Receive) -> Receive:
        if scope["path"].startswith(_UPLOADS):
            return receive
        size = 0

        async def capped() -> Any:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > JSON_BYTES:
                raise TooLarge(f"a request has at most {JSON_BYTES >> 20} MiB")
            return message

        return capped
