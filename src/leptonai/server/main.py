"""The server process of a home folder: one per home, with the agent of Site home beside it."""

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from anyio.to_thread import run_sync

from leptonai import __version__
from leptonai.core import settings
from leptonai.core.errors import LeptonError
from leptonai.core.nouns import Audit, Key
from leptonai.server import home as homes
from leptonai.server.app import make_app
from leptonai.server.auth import make_key
from leptonai.server.context import Context, forget_what_answered, open_context
from leptonai.server.guard import log
from leptonai.server.listen import Server, configure, listen, url_of
from leptonai.server.spawn import AgentProcess


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
        if logging.root.handlers:  # else it has no log yet: the home folder is another server's, or cannot be used
            log.error("the server ended: %s", error.message)
        print(f"leptonai: {error.message}", file=sys.stderr)
        return 1
    return 0


def _log_to(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=8 << 20, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for quiet in ("alembic", "httpx", "uvicorn.error"):
        logging.getLogger(quiet).setLevel(logging.WARNING)


async def _serve(given: argparse.Namespace, home: Path) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(
            contextlib.closing(listen(given.host, given.port, given.tls_certificate, given.tls_key, given.insecure))
        )
        url = url_of(given.host, listener, given.tls_key is not None)
        database, store = settings.get("database_url"), settings.get("store_url")
        context = open_context(home, database, store, settings.number("lease_seconds"))
        stack.callback(context.close)
        context.hosts |= {given.host.lower(), *map(str.lower, given.name)} | ({"*"} if given.insecure else frozenset())
        if not given.embedded:
            _first_key(context, home)
        server = Server(configure(make_app(context), given.tls_certificate, given.tls_key))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        agent = AgentProcess(home, url, context.agent_token)
        if not given.no_agent:
            await run_sync(forget_what_answered, context)
            agent.start()
            stack.callback(agent.stop)
        homes.tell(home, url, context.local_token, given.embedded)
        lonely = asyncio.create_task(homes.when_lonely(home, stopping.set)) if given.embedded else None
        log.info("leptonai %s answers at %s", __version__, url)
        gc.enable()
        gc.freeze()  # what is loaded stays
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
