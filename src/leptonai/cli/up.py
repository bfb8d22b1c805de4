"""``lepton up`` and ``lepton demo``: what keeps a server running, and what shows it off."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer

from leptonai.core import settings
from leptonai.core.errors import Conflict, MissingExtra, Unavailable

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d ")  # how a line of its log begins


def up(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine it needs TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8642,
    tls_certificate: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificate, for HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without TLS: keys travel in the clear.")
    ] = False,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port on which services answer gRPC too; 0: none.")
    ] = None,
    no_agent: Annotated[
        bool, typer.Option("--no-agent", help="Answer only: another server on this database does the work.")
    ] = False,
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
    arguments = ["--home", str(home), "--host", host, "--port", str(port), *(["--insecure"] if insecure else [])]
    arguments += ["--no-agent"] if no_agent else []
    for flag, path in (("--tls-certificate", tls_certificate), ("--tls-key", tls_key)):
        arguments += [flag, str(path)] if path is not None else []
    server = Server(home, arguments, {} if grpc_port is None else {"LEPTONAI_GRPC_PORT": str(grpc_port)})
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _announce(home, server.started())
        server.process.wait()
        raise Unavailable(f"the server ended by itself, with code {server.process.returncode}: see {server.log}")
    except KeyboardInterrupt:
        print("lepton: stopping the server", file=sys.stderr)
    finally:
        server.stop()
        signal.signal(signal.SIGTERM, before)


class Server:
    """A server process. What it says before it logs is for the user: its first key, or why it cannot start."""

    def __init__(self, home: Path, arguments: list[str], variables: Mapping[str, str] | None = None):
        """`variables`: settings of the server and what it starts, on top of the environment."""
        self.home = home
        self.log = home / "logs" / "server.log"
        # A group of its own, so that Ctrl-C reaches this process alone, which then stops the server in order.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "leptonai.server", *arguments],
            stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
            env=settings.environment(**(variables or {})),
        )  # fmt: skip
        self._words: list[str] = []
        self._reader = threading.Thread(target=self._read, name="server-words", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None  # noqa: S101  it was asked for
        with self.process.stderr as lines:
            for line in lines:
                if _LOGGED.match(line):
                    with self.log.open("a", encoding="utf-8") as log:
                        log.write(line)
                        log.writelines(_flushed(lines, log))
                else:
                    self._words.append(line)

    def started(self) -> dict[str, Any]:
        """Wait until it answers and return what it says of itself. Raises `Unavailable` with its own words."""
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            facts = known(self.home)
            if facts is not None and facts["pid"] == self.process.pid:
                print("".join(self._words), end="", file=sys.stderr)
                return facts
            if self.process.poll() is not None:
                self._reader.join()
                why = " ".join(self._words).strip().removeprefix("leptonai: ")
                raise Unavailable(why or f"the server did not start (code {self.process.returncode}): see {self.log}")
            time.sleep(0.05)
        raise Unavailable(f"the server did not answer within {_START_SECONDS:g} s: see {self.log}")

    def stop(self) -> None:
        """Stop it in order, or by force when that takes too long."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()


def _flushed(lines: Iterable[str], log: TextIO) -> Iterator[str]:
    for line in lines:
        yield line
        log.flush()


def known(home: Path) -> dict[str, Any] | None:
    """Return what the running server of a home folder says of itself, or None."""
    try:
        facts: dict[str, Any] = json.loads((home / "server.json").read_text("utf-8"))
        signalable = Path(f"/proc/{facts['pid']}").exists()
    except (OSError, ValueError, KeyError):
        return None
    return facts if signalable else None


def _announce(home: Path, facts: dict[str, Any]) -> None:
    print(facts["url"], flush=True)
    print(
        f"lepton: the server of {home} answers at {facts['url']}; Ctrl-C stops it\n"
        "  On this machine:  just use leptonai and lepton; they find it\n"
        f"  With a key:       lepton login {facts['url']}   (more keys: lepton key create NAME --scope …)\n"
        f"  Its log:          {home / 'logs' / 'server.log'}",
        file=sys.stderr,
        flush=True,
    )


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story and clean up.")] = False,
    as_: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="json: one JSON object as the last line.")
    ] = "table",
) -> None:
    """Watch real data become live endpoints, step by step, in a minute."""
    from leptonai.cli.demo import demo as tell

    tell(once=once, output=as_)
