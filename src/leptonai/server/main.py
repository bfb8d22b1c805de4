"""The server process of a home folder: one per home, with the agent of Site home beside it."""

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import uvicorn
from anyio.to_thread import run_sync

from leptonai import __version__
from leptonai.core import settings
from leptonai.core.errors import Invalid, LeptonError, Unavailable
from leptonai.core.nouns import Audit, Key
from leptonai.server import home as homes
from leptonai.server.app import make_app
from leptonai.server.auth import make_key
from leptonai.server.context import Context, forget_what_answered, open_context
from leptonai.server.guard import log
from leptonai.server.protocol import PatientProtocol
from leptonai.server.spawn import AgentProcess

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_CONNECTIONS = 2000


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m leptonai.server", description="The server of a home folder.")
    parser.add_argument("--home", help="home folder (setting home)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; beyond loopback TLS is needed")
    parser.add_argument("--port", type=int, default=0, help="port; 0: any free one")
    parser.add_argument("--tls-certificate", type=Path, help="PEM file with the certificate chain")
    parser.add_argument("--tls-key", type=Path, help="PEM file with its key")
    parser.add_argument("--insecure", action="store_true", help="listen beyond loopback without TLS")
    parser.add_argument(
        "--name", action="append", default=[], help="another host name that callers use for this server"
    )
    parser.add_argument("--embedded", action="store_true", help="end when no client of this machine is left")
    parser.add_argument("--no-agent", action="store_true", help="start no agent for Site home")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the server until it is told to stop; return the exit code."""
    given = options(arguments)
    home = settings.home(given.home)
    try:
        with homes.hold(home):
            _log_to(home / "logs" / "server.log")
            asyncio.run(_serve(given, home))
    except LeptonError as error:
        log.error("the server did not start: %s", error.message)
        print(f"leptonai: {error.message}", file=sys.stderr)
        return 1
    return 0


def _log_to(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=8 << 20, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for quiet in ("alembic", "httpx", "uvicorn.error"):
        logging.getLogger(quiet).setLevel(logging.WARNING)


def _listen(given: argparse.Namespace) -> socket.socket:
    if (given.tls_certificate is None) != (given.tls_key is None):
        raise Invalid("TLS needs both --tls-certificate and --tls-key")
    if given.host not in LOOPBACK and given.tls_key is None and not given.insecure:
        raise Invalid(
            f"{given.host} is not a loopback address: give --tls-certificate and --tls-key, or --insecure to say that you know"
        )
    for file in (given.tls_certificate, given.tls_key):
        if file is not None and not file.is_file():
            raise Invalid(f"there is no file {file} to take TLS from")
    listener = socket.socket(socket.AF_INET6 if ":" in given.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((given.host, given.port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        why = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise Unavailable(f"{given.host}:{given.port} cannot be listened on: {why}; choose another --port") from error
    return listener


def _url(given: argparse.Namespace, listener: socket.socket) -> str:
    scheme = "https" if given.tls_key else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(given.host, given.host)  # noqa: S104  not bound to
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


class Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


async def _serve(given: argparse.Namespace, home: Path) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(_listen(given)))
        url = _url(given, listener)
        database, store = settings.get("database_url"), settings.get("store_url")
        context = open_context(home, database, store, settings.number("lease_seconds"))
        stack.callback(context.close)
        context.hosts |= {given.host.lower(), *map(str.lower, given.name)} | ({"*"} if given.insecure else frozenset())
        if not given.embedded:
            _first_key(context, home)
        config = uvicorn.Config(
            make_app(context),
            http=PatientProtocol,
            ws="none",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=given.tls_certificate,
            ssl_keyfile=given.tls_key,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=65,
            limit_concurrency=_CONNECTIONS,
            h11_max_incomplete_event_size=64 << 10,
        )
        try:
            config.load()
        except OSError as error:  # ssl.SSLError is one
            raise Invalid(f"TLS cannot be set up from {given.tls_certificate} and {given.tls_key}: {error}") from error
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        agent = AgentProcess(home, url, context.agent_token)
        if not given.no_agent:
            await run_sync(forget_what_answered, context)
            agent.start()
            stack.callback(agent.stop)
        homes.tell(home, url, context.local_token, given.embedded)
        lonely = asyncio.create_task(homes.when_lonely(home, stopping.set)) if given.embedded else None
        log.info("leptonai %s answers at %s", __version__, url)
        await asyncio.wait((serving, asyncio.create_task(stopping.wait())), return_when=asyncio.FIRST_COMPLETED)
        # The agent first: it gives back what it works on, which needs a server that answers.
        context.wakes.close()
        await run_sync(agent.stop)
        server.should_exit = True
        await serving
        if lonely is not None:
            lonely.cancel()


def _first_key(context: Context, home: Path) -> None:
    """Make the admin key of a new home and show it, once."""
    if context.catalog.find(Key, limit=1):
        return
    key, secret = make_key(context, "admin", ("*",), "first start")
    context.catalog.add(key, Audit.new(name="key.create", subject="admin", by="first start", facts={"scopes": ["*"]}))
    print(
        f"\nThe admin key of {home}, shown this once and kept nowhere:\n\n    {secret}\n\n"
        "Use it as LEPTONAI_API_KEY, or with  lepton login URL.\n",
        file=sys.stderr,
        flush=True,
    )
