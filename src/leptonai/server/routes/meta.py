"""The server about itself."""

from starlette.responses import Response

from leptonai import __version__
from leptonai.server.routes.table import Routes, Who
from leptonai.server.scopes import ANY_KEY, PUBLIC
from leptonai.server.wire import Json

routes = Routes()


@routes.route("GET", "/health", PUBLIC)
async def health() -> Response:
    """Say that the server answers, and which version it is."""
    return Json({"status": "ok", "version": __version__})


@routes.route("GET", "/me", ANY_KEY)
async def me(who: Who) -> Response:
    """Say who the caller is and what he may do."""
    return Json({"name": who.name, "scopes": sorted(who.scopes)})
