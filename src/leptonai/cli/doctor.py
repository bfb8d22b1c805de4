"""``lepton doctor``: looks at the installation, the settings and the server, and says what is wrong and what to do."""

import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal, NamedTuple

import typer

from leptonai import __version__
from leptonai.cli import output
from leptonai.cli.flags import Output
from leptonai.core import settings
from leptonai.core.errors import LeptonError

_EXTRAS = {"platform": "fastapi", "torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "keras": "keras"}
_BUILDS = {"compiled": "compiled", "pure": "pure Python: a wheel for this platform brings it compiled, and quicker"}
_ROOM = 2 * 1024**3  # less free space than this is worth a word


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "wrong"]
    detail: str


def doctor(context: typer.Context, as_: Output = "table") -> None:
    """Check the installation, the settings and the server.

    Exit code 1 when something is wrong.
    """
    from leptonai.sdk import show

    given = context.obj or {}
    found = [*_installation(), *_settings(given), *_server(given)]
    data = [finding._asdict() for finding in found]
    output.emit(as_, data, lambda: show.table(["what", "state", "detail"], found))
    if any(finding.state == "wrong" for finding in found):
        raise typer.Exit(1)


def _installation() -> Iterator[Finding]:
    from leptonai.sdk.client import clash
    from leptonai.serving.build import build

    yield Finding("leptonai", "ok", f"{__version__} on Python {platform.python_version()}, {platform.machine()}")
    yield Finding("serving plane", "ok", _BUILDS[build()])
    other = clash()
    yield Finding("import name", "wrong", other) if other else Finding("import name", "ok", "leptonai is ours alone")
    if sys.platform != "linux":
        yield Finding("system", "note", f"{sys.platform}: the client works; a server needs Linux")
    for extra, module in _EXTRAS.items():
        if find_spec(module) is None:
            name = "torch" if extra == "keras" else extra
            yield Finding(extra, "note", f"not installed:  pip install 'lepton-ai-sdk[{name}]'")
        else:
            yield Finding(extra, "ok", f"{module} {_version(module)}")


def _version(module: str) -> str:
    from importlib import metadata

    for name in (module, f"{module}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "installed"


def _settings(given: dict[str, str | None]) -> Iterator[Finding]:
    try:
        host, key = settings.get("host", given.get("host")), settings.get("api_key", given.get("api_key"))
    except LeptonError as error:
        yield Finding("settings", "wrong", error.message)
        return
    yield Finding("host", "ok", host or "not set: the server of this machine is used")
    if key and not host:
        yield Finding("api_key", "note", "set, but not used without a host")
    elif host:
        yield Finding("api_key", "ok" if key else "note", "set" if key else "not set: most calls will be refused")
    path = settings.user_file()
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding("user file", "wrong", f"others may read {path}, which holds a key:  chmod 600 {path}")


def _server(given: dict[str, str | None]) -> Iterator[Finding]:
    from leptonai.cli.up import known
    from leptonai.sdk.client import Client

    home = settings.home(given.get("home"))
    try:
        host = given.get("host") or (None if given.get("home") else settings.get("host"))
    except LeptonError:
        return  # the settings cannot be read, as said above
    if host is None:
        yield from _home(home)
        running = known(home)
        if running is None:
            yield Finding("server", "note", "not running: the first call starts one, `lepton up` keeps one")
            return
    try:
        with Client(host=host, api_key=given.get("api_key"), home=None if host else home) as server:
            health = server.http.call("GET", "/health")
            me = server.http.call("GET", "/me")
            version = health.get("version")
            same = version == __version__
            detail = f"{server.url} answers, version {version}, you are {me['name']}"
            yield Finding(
                "server", "ok" if same else "note", detail + ("" if same else f"; the client is {__version__}")
            )
            for site in server.http.pages("/sites"):
                seen = output.ago(site["seen"])
                state: Literal["ok", "note"] = "ok" if seen else "note"
                yield Finding(
                    f"site {site['name']}", state, f"agent seen {seen}" if seen else "its agent was never seen"
                )
    except LeptonError as error:
        yield Finding("server", "wrong", error.message)


def _home(home: "os.PathLike[str]") -> Iterator[Finding]:
    path = settings.home(home)
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        yield Finding("home", "wrong", f"{there} cannot be written to; set LEPTONAI_HOME to a folder that can")
    elif path.is_dir() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding("home", "wrong", f"others may look into {path}, which holds keys:  chmod 700 {path}")
    else:
        yield Finding("home", "ok", f"{path}{'' if path.is_dir() else ' (made at the first call)'}")
    free = shutil.disk_usage(there).free
    from leptonai.sdk import show

    yield Finding("disk", "ok" if free > _ROOM else "note", f"{show.size(free)} free at {there}")
