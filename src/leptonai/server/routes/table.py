"""The one route table. A route that declares no permission cannot be put into it, so the server does not start with one."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends, FastAPI, Header, Query, Request

from leptonai.server.auth import Caller
from leptonai.server.context import Context
from leptonai.server.desk import ServerDesk
from leptonai.server.gate import JSON_BYTES, Gate
from leptonai.server.scopes import DECLARABLE

API = "/api/v1"
F = TypeVar("F", bound=Callable[..., Any])


class Route(NamedTuple):
    """One route, and what a caller needs for it."""

    method: str
    path: str
    permission: str
    summary: str
    handler: Callable[..., Any]
    limit: int = JSON_BYTES  # of the body
    streams: bool = False  # the handler reads the body itself


class Routes:
    """Collects the routes of one file."""

    def __init__(self) -> None:
        self.found: list[Route] = []

    def route(
        self, method: str, path: str, permission: str, *, limit: int = JSON_BYTES, streams: bool = False
    ) -> Callable[[F], F]:
        """Add a handler. Raises `ValueError` for a permission that is none."""

        def take(handler: F) -> F:
            summary = (handler.__doc__ or "").strip().partition("\n")[0]
            route = Route(method, f"{API}{path}", permission, summary, handler, limit, streams)
            _check(route)
            self.found.append(route)
            return handler

        return take


def _check(route: Route) -> None:
    if route.permission not in DECLARABLE:
        raise ValueError(
            f"{route.method} {route.path} declares no permission, or one that does not exist: {route.permission!r}"
        )


def context(request: Request) -> Context:
    """Return what the server is made of."""
    found: Context = request.app.state.context
    return found


async def caller(request: Request) -> Caller:
    """Return who calls; the gate of the route put him there."""
    found: Caller = request.state.caller
    return found


async def desk(request: Request) -> ServerDesk:
    """Return the desk of whoever calls."""
    return ServerDesk(context(request), request.state.caller.name, request.state.caller)


async def _context(request: Request) -> Context:
    return context(request)


Here = Annotated[Context, Depends(_context)]
Who = Annotated[Caller, Depends(caller)]
AtDesk = Annotated[ServerDesk, Depends(desk)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9._@-]{0,220}$")]
Word = Annotated[str | None, Query(max_length=200)]
Once = Annotated[str | None, Header(alias="idempotency-key")]


def install(app: FastAPI, routes: Sequence[Route]) -> None:
    """Put the routes into the app, each behind its gate. Raises `ValueError` for a route without a permission."""
    for route in routes:
        _check(route)
        app.router.add_api_route(
            route.path,
            route.handler,
            methods=[route.method],
            summary=route.summary,
            response_model=None,
            openapi_extra={"x-permission": route.permission},
            route_class_override=Gate,
        )
        gate = app.router.routes[-1]
        if not isinstance(gate, Gate):
            raise TypeError(f"{route.path} is not behind a gate")
        gate.permission, gate.limit, gate.streams = route.permission, route.limit, route.streams
    for found in app.routes:
        if not isinstance(found, Gate) or found.permission not in DECLARABLE:
            raise ValueError(f"{getattr(found, 'path', found)} is not in the route table: it declares no permission")
