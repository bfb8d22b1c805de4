"""The server as one ASGI application, wired here and nowhere else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from anyio.to_thread import current_default_thread_limiter, run_sync
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from leptonai import __version__
from leptonai.core.errors import LeptonError
from leptonai.server import sweeping, wire
from leptonai.server.auth import Door
from leptonai.server.context import Context
from leptonai.server.describe import describe
from leptonai.server.guard import Guard, log
from leptonai.server.metrics import Metrics
from leptonai.server.predictions import sweep
from leptonai.server.receipts import forget_old
from leptonai.server.routes import table
from leptonai.server.routes.table import API, Route, install
from leptonai.server.scopes import PUBLIC

_EXPIRE_SECONDS = 1.0
_FORGET_TURNS = 3600
_SWEEP_TURNS = 24 * 3600
_ROTATE_SECONDS = 0.5  # of each turn, while a rotation is under way
_THREADS = 24  # for catalog and store calls; as many as the catalog has connections


def make_app(context: Context, routes: Sequence[Route] | None = None) -> ASGIApp:
    """Return the application. Raises `ValueError` when a route declares no permission."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = _THREADS
        context.wakes.bind()
        task = asyncio.create_task(_tidy(context))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app = FastAPI(
        title="leptonai",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: f"{route.name}",
    )
    metrics = Metrics()
    app.state.context = context
    app.state.door = Door(context)

    def openapi() -> Response:
        """Return the OpenAPI 3.1 description of this API."""
        return wire.Json(describe(app))

    def numbers() -> Response:
        """Return the server's own metrics as Prometheus text."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    own = [
        Route("GET", f"{API}/openapi.json", PUBLIC, "Return the OpenAPI description", openapi),
        Route("GET", "/metrics", "metrics:read", "Return metrics", numbers),
    ]
    install(app, [*own, *(table() if routes is None else routes)])
    app.add_exception_handler(Exception, wire.on_crash)
    app.add_exception_handler(LeptonError, wire.on_error)
    app.add_exception_handler(RequestValidationError, wire.on_invalid)
    app.add_exception_handler(HTTPException, wire.on_http)
    return Guard(app, context.hosts, metrics)


async def _tidy(context: Context) -> None:
    """End, once a second, the Runs that nobody else will end; go on with a rotation of keys; now and then, sweep."""
    turn = 0
    while not context.wakes.closed:
        try:
            lost = await run_sync(context.queue.expire)
            context.wakes.notify(*{f"site:{run.site}" for run in lost})
            await run_sync(context.rotator.go_on, _ROTATE_SECONDS)
            if turn % _FORGET_TURNS == 60:
                await run_sync(forget_old, context.catalog)
                await run_sync(sweep, context)
            if turn % _SWEEP_TURNS == 600:
                await run_sync(sweeping.sweep, context.catalog, context.raw, "server")
        except LeptonError as error:
            log.warning("looking for lost runs failed: %s", error.message)
        turn += 1
        await asyncio.sleep(_EXPIRE_SECONDS)
