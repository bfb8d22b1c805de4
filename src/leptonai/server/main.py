"""The server process of a home folder: one per home, with the agent of Site home beside it."""

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import uvicorn

from leptonai import __version__
from leptonai.core import settings
from leptonai.core.errors import Conflict, Invalid, LeptonError, Unavailable
from leptonai.core.nouns import Key
from leptonai.server.app import make_app
from leptonai.server.auth import make_key
from leptonai.server.context import Context, open_context
from leptonai.server.guard import log
from leptonai.server.spawn import AgentProcess

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m leptonai.server", description="The server of a home folder.")
    parser.add_argument("--home", help="home folder (setting home)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; beyond loopback TLS is needed")
    parser.add_argument("--port", type=int, default=0, help="port; 0: any free one")
    parser.add_argument("--tls-certificate", type=Path)
    parser.add_argument("--tls-key", type=Path)
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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    for quiet in ("alembic", "httpx"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    try:
        with _home(settings.home(given.home)) as home:
            asyncio.run(_serve(given, home))
    except LeptonError as error:
        print(f"leptonai: {error.message}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _home(home: Path) -> Iterator[Path]:
    """Hold the lock of the home folder: one server per home."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "logs").mkdir(mode=0o700, exist_ok=True)
        lock = (home / "server.lock").open("a")
    except OSError as error:
        raise Unavailable(f"the home folder {home} cannot be used: {error.strerror}") from error
    with lock:
        if not _try_lock(lock):
            try:
                other = json.loads((home / "server.json").read_text("utf-8"))
            except (OSError, ValueError):
                other = {}
            raise Conflict(
                f"a server runs in {home} already (process {other.get('pid', '?')}, {other.get('url', '?')})"
            )
        try:
            yield home
        finally:
            (home / "server.json").unlink(missing_ok=True)


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listen(given: argparse.Namespace) -> socket.socket:
    secure = given.tls_certificate is not None and given.tls_key is not None
    if given.host not in LOOPBACK and not (secure or given.insecure):
        raise Invalid(
            f"{given.host} is not a loopback address: give --tls-certificate and --tls-key, or --insecure to say that you know"
        )
    family = socket.AF_INET6 if ":" in given.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((given.host, given.port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"{given.host}:{given.port} cannot be listened on: {error.strerror}; choose another --port"
        ) from error
    return listener


async def _serve(given: argparse.Namespace, home: Path) -> None:
    listener = _listen(given)
    scheme = "https" if given.tls_certificate else "http"
    name = f"[{given.host}]" if ":" in given.host else given.host
    url = f"{scheme}://{'127.0.0.1' if given.host in {'0.0.0.0', ''} else name}:{listener.getsockname()[1]}"  # noqa: S104
    context = open_context(
        home, settings.get("database_url"), settings.get("store_url"), settings.number("lease_seconds")
    )
    agent = AgentProcess(home, url, context.agent_token)
    try:
        context.hosts = context.hosts | {given.host, *given.name} | ({"*"} if given.insecure else frozenset())
        if not given.embedded:
            _first_key(context, home)
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(context),
                http="h11",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                ssl_certfile=given.tls_certificate,
                ssl_keyfile=given.tls_key,
                timeout_graceful_shutdown=1,
                timeout_keep_alive=65,
                h11_max_incomplete_event_size=64 << 10,
            )
        )
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, lambda: setattr(server, "should_exit", True))
        _tell(home, url, context.local_token, given.embedded)
        if not given.no_agent:
            agent.start()
        lonely = asyncio.create_task(_until_lonely(home, server)) if given.embedded else None
        log.info("leptonai %s answers at %s", __version__, url)
        await server.serve(sockets=[listener])
        if lonely is not None:
            lonely.cancel()
    finally:
        agent.stop()
        context.close()
        listener.close()


def _first_key(context: Context, home: Path) -> None:
    """Make the admin key of a new home and show it, once."""
    if context.catalog.find(Key, limit=1):
        return
    key, secret = make_key(context, "admin", ("*",), "first start")
    context.catalog.add(key)
    print(
        f"\nThe admin key of {home}, shown this once and kept nowhere:\n\n    {secret}\n\n"
        "Use it as LEPTONAI_API_KEY, or with  lepton login URL.\n",
        file=sys.stderr,
        flush=True,
    )


def _tell(home: Path, url: str, token: str, embedded: bool) -> None:
    """Write server.json, by which this user's programs find the server; readable by him alone."""
    facts = {"url": url, "pid": os.getpid(), "token": token, "version": __version__, "embedded": embedded}
    temp = home / f".server.json.{os.getpid()}"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(facts, file)
    temp.replace(home / "server.json")


async def _until_lonely(home: Path, server: uvicorn.Server) -> None:
    """End an embedded server when no client holds its lock; the kernel lets go of it even for a client that was killed."""
    with (home / "clients.lock").open("a") as file:
        while not _try_lock(file):
            await asyncio.sleep(0.25)
        # Held until this process ends: a client that comes now waits, and then starts a server of its own.
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
