"""What stands before every route: who calls, whether he may, and a body and parameters that can mean one thing only.

In this order, so that a stranger learns nothing and costs nothing: permission first, then the body is read.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from anyio.to_thread import run_sync
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.refs import check_name
from leptonai.server import strict
from leptonai.server.scopes import PUBLIC

JSON_BYTES = 8 << 20

_ID = re.compile(r"[a-z]+_[0-9a-z]{26}")
_BLOB = re.compile(r"[0-9a-f]{64}")


class Received(Request):
    """A request whose body was read and understood already."""

    def __init__(self, request: Request, text: bytes, value: Any):
        super().__init__(request.scope, request.receive)
        self._text = text
        self._value = value

    async def body(self) -> bytes:
        """Return the bytes."""
        return self._text

    async def json(self) -> Any:
        """Return what they mean."""
        return self._value


class Gate(APIRoute):
    """A route behind its gate. `declare` says what it takes to pass; a gate that nobody declared lets nobody pass."""

    permission: str = ""
    streams: bool = False  # the handler reads the body itself, piece by piece
    limit: int = JSON_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the gate before it."""
        handle = super().get_route_handler()

        async def gated(request: Request) -> Response:
            if self.permission != PUBLIC:
                door = request.app.state.door
                header = request.headers.get("authorization")
                who = door.at_once(header) or await run_sync(door.enter, header)
                who.need(self.permission)
                request.state.caller = who
            self._check_parameters(request)
            return await handle(request if self.streams else await self._received(request))

        return gated

    async def _received(self, request: Request) -> Received:
        text = await strict.body_of(request, self.limit)
        if self.body_field is None:
            if text.strip() not in (b"", b"{}"):
                raise Invalid("this takes no body: leave it out", errors=[FieldError("body", "none")])
            return Received(request, text, None)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if text and kind != "application/json":
            raise Invalid(
                f"the body must be JSON, and the header Content-Type say so, not {kind[:60]!r}",
                errors=[FieldError("Content-Type", "application/json")],
            )
        return Received(request, text, await strict.json_of(text) if text else None)

    def _check_parameters(self, request: Request) -> None:
        for name, value in request.path_params.items():
            _check_path(name, str(value))
        known = {field.alias for field in self.dependant.query_params}
        for name, value in request.query_params.multi_items():
            if name not in known:
                right = f"one of {', '.join(sorted(known))}" if known else "none"
                raise Invalid(
                    f"there is no query parameter {name[:80]!r} here: use {right}",
                    errors=[FieldError(name[:80], right)],
                )
            if len(value) > 2000 or "\0" in value or not _unicode(value):
                raise Invalid(
                    f"query parameter {name} is not text that can be looked for", errors=[FieldError(name, "text")]
                )
        if len(request.query_params.multi_items()) != len(request.query_params):
            raise Invalid("a query parameter is there twice: give each once")


def _check_path(name: str, value: str) -> None:
    """Raise `Invalid` for a part of the path that cannot be what it stands for. Names never become paths, or SQL."""
    if name in ("name", "site", "alias"):
        check_name(value, name)
    elif name == "id" and not _ID.fullmatch(value):
        raise Invalid(f"{value[:80]!r} is not an id", errors=[FieldError("id", "such as run_ and 26 characters")])
    elif name == "blob" and not _BLOB.fullmatch(value):
        raise Invalid(f"{value[:80]!r} is not a blob", errors=[FieldError("blob", "64 digits 0-9 a-f")])
    elif not _unicode(value):
        raise Invalid(f"{name} is not text", errors=[FieldError(name, "text")])


def _unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
