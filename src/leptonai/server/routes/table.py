"""The one route table. A route that declares no permission cannot be put into it, so the server does not start with one."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends, FastAPI, Request

from leptonai.core.refs import check_name
from leptonai.server.auth import Caller, Door
from leptonai.server.context import Context
from leptonai.server.desk import ServerDesk

API = "/api/v1"
PUBLIC = "public"
F = TypeVar("F", bound=Callable[..., Any])

# Every permission there is; keys are made with some of them.
PERMISSIONS = (
    "dataset:read", "dataset:write", "run:read", "run:write", "model:read", "model:write", "service:read", "service:write",
    "site:read", "site:agent", "key:read", "key:write", "blob:read", "blob:write", "audit:read", "run:report",
)  # fmt: skip
_SPECIAL = (PUBLIC, "me", "stage")  # "me": any valid key; "stage": the permission of the stage that is asked for


class Route(NamedTuple):
    """One route, and what a caller needs for it."""

    method: str
    path: str
    permission: str
    summary: str
    handler: Callable[..., Any]


class Routes:
    """Collects the routes of one file."""

    def __init__(self) -> None:
        self.found: list[Route] = []

    def route(self, method: str, path: str, permission: str) -> Callable[[F], F]:
        """Add a handler. Raises `ValueError` for a permission that is none."""
        if permission not in (*PERMISSIONS, *_SPECIAL):
            raise ValueError(f"{method} {path} declares no permission, or one that does not exist: {permission!r}")

        def take(handler: F) -> F:
            summary = (handler.__doc__ or "").strip().partition("\n")[0]
            self.found.append(Route(method, f"{API}{path}", permission, summary, handler))
            return handler

        return take


def context(request: Request) -> Context:
    """Return what the server is made of."""
    found: Context = request.app.state.context
    return found


def caller(request: Request) -> Caller:
    """Return who calls; the guard of the route put him there."""
    found: Caller = request.state.caller
    return found


def desk(request: Request) -> ServerDesk:
    """Return the desk of whoever calls."""
    return ServerDesk(context(request), caller(request).name)


Here = Annotated[Context, Depends(context)]
Who = Annotated[Caller, Depends(caller)]
AtDesk = Annotated[ServerDesk, Depends(desk)]


def _guard(permission: str) -> Callable[[Request], None]:
    def guard(request: Request) -> None:
        door: Door = request.app.state.door
        who = door.enter(request.headers.get("authorization"))
        if permission != "stage":
            who.need(permission)
        request.state.caller = who
        for name in ("name", "site", "alias"):
            if name in request.path_params:
                check_name(str(request.path_params[name]), name)

    return guard


def install(app: FastAPI, routes: list[Route]) -> None:
    """Put the routes into the app, each behind its guard. Raises `ValueError` for a route that was added past the table."""
    for route in routes:
        guards = [] if route.permission == PUBLIC else [Depends(_guard(route.permission))]
        app.add_api_route(
            route.path,
            route.handler,
            methods=[route.method],
            dependencies=guards,
            summary=route.summary,
            response_model=None,
            openapi_extra={"x-permission": route.permission},
        )
    known = {(route.method, route.path) for route in routes}
    for found in app.routes:
        path, methods = getattr(found, "path", ""), getattr(found, "methods", None) or set()
        for method in methods - {"HEAD", "OPTIONS"}:
            if (method, path) not in known:
                raise ValueError(f"{method} {path} is not in the route table: it declares no permission")
