"""``lepton login``: keep host and key in the user file, so that every later command uses them."""

import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from leptonai.cli import formats, output
from leptonai.cli.flags import DryRun, Output
from leptonai.core import settings


def login(
    host: Annotated[str, typer.Argument(metavar="URL", help="The server, such as https://server.example:8443.")],
    api_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The API key; default: asked for, or read from stdin.")
    ] = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Keep a server and its key for all later commands."""
    from leptonai.sdk import show
    from leptonai.sdk.client import Client

    key = api_key or _ask()
    with Client(host=host, api_key=key) as server:
        me = server.http.call("GET", "/me")
        url = server.host or host
    path = settings.user_file()
    if dry_run:
        output.would(as_, f"keep {url} and the key of {me['name']} in {path}")
        return
    keep(path, url, key)
    facts = {"server": url, "you are": me["name"], "you may": ", ".join(me["scopes"]), "kept in": str(path)}
    output.emit(as_, {"host": url, **me, "file": str(path)}, lambda: show.facts_table(facts))


def _ask() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("API key", hide_input=True, err=True))
    key = sys.stdin.readline().strip()
    if not key:
        raise typer.BadParameter("give the key with --api-key, or on stdin")
    return key


def keep(path: Path, host: str, key: str) -> None:
    """Write host and key into the user file, for its owner's eyes only; other settings in it stay."""
    known = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    text = formats.to_toml({**known, "host": host, "api_key": key})
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config-")  # 0600 from the start, then moved in one step
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
