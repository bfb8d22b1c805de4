"""``lepton up`` and ``lepton demo``: what keeps a server running, and what shows it off."""

import json
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from leptonai.core import settings
from leptonai.core.errors import Conflict, MissingExtra, Unavailable

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


def up(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8642,
) -> None:
    """Start the server of this machine and keep it until Ctrl-C.

    Example: lepton up --port 8642
    """
    if find_spec("fastapi") is None:
        raise MissingExtra("a server needs more than the client:  pip install 'lepton-ai-sdk[platform]'")
    home = settings.home((context.obj or {}).get("home"))
    running = known(home)
    if running is not None:
        raise Conflict(f"a server of {home} runs already: {running['url']} (process {running['pid']})")
    arguments = ["--home", str(home), "--host", host, "--port", str(port)]
    # A group of its own, so that Ctrl-C reaches this process alone, which then stops the server in order.
    server = subprocess.Popen([sys.executable, "-m", "leptonai.server", *arguments], start_new_session=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _announce(home, _started(server, home))
        code = server.wait()
        raise Unavailable(f"the server ended by itself with code {code}; its log is {home / 'logs' / 'server.log'}")
    except KeyboardInterrupt:
        print("lepton: stopping the server", file=sys.stderr)
    finally:
        _stop(server)
        signal.signal(signal.SIGTERM, before)


def known(home: Path) -> dict[str, Any] | None:
    """Return what the running server of a home folder says of itself, or None."""
    try:
        facts: dict[str, Any] = json.loads((home / "server.json").read_text("utf-8"))
        signalable = Path(f"/proc/{facts['pid']}").exists()
    except (OSError, ValueError, KeyError):
        return None
    return facts if signalable else None


def _started(server: "subprocess.Popen[bytes]", home: Path) -> dict[str, Any]:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        facts = known(home)
        if facts is not None and facts["pid"] == server.pid:
            return facts
        if server.poll() is not None:
            log = home / "logs" / "server.log"
            raise Unavailable(f"the server did not start (code {server.returncode}); its log is {log}")
        time.sleep(0.05)
    raise Unavailable(f"the server did not answer within {_START_SECONDS:g} s")


def _announce(home: Path, facts: dict[str, Any]) -> None:
    print(facts["url"], flush=True)
    print(
        f"lepton: the server of {home} answers at {facts['url']}; Ctrl-C stops it\n"
        "  On this machine:   just use leptonai and lepton; they find it.\n"
        f"  On another one:    lepton login {facts['url']}   (with a key: lepton key create NAME --scope '*')",
        file=sys.stderr,
        flush=True,
    )


def _stop(server: "subprocess.Popen[bytes]") -> None:
    if server.poll() is not None:
        return
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story and clean up.")] = False,
    as_: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="json: one JSON object as the last line.")
    ] = "table",
) -> None:
    """Watch real data become live endpoints, step by step, in a minute."""
    from leptonai.cli.demo import demo as tell

    tell(once=once, output=as_)
