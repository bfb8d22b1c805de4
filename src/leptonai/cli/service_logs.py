"""``lepton service logs`` and ``lepton service dashboard``: the access log, and what Grafana and Prometheus read."""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import Output
from leptonai.cli.service import app
from leptonai.core import settings
from leptonai.core.errors import FieldError, Invalid, NotFound
from leptonai.core.refs import check_name

if TYPE_CHECKING:
    from leptonai.sdk.http import Http

LOOK_SECONDS = 0.3
REMOTE_SECONDS = 1.0  # between two questions to the server of another machine
MOST = 1000  # lines of one answer


@app.command("logs")
def logs(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this service; default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="Begin with at most so many lines.")] = 50,
    as_: Output = "table",
) -> None:
    """Show the access log of a service, or of all services on this machine, one line for each request that was logged.

    The setting access_log (LEPTONAI_ACCESS_LOG) says which are: errors, on, off, or a share.

    Example: lepton service logs churn --follow
    """
    from leptonai.sdk import client

    via = client.current()
    if via.host is not None:
        _show(name, _remote(via.http, name, limit, follow=follow), as_)
        return
    folder = Path(via.home) / "logs"
    files = sorted(folder.glob("access-*.jsonl*"))
    if not files and not follow:
        kept = settings.get("access_log")
        raise NotFound(f"there is no access log in {folder}: access_log is {kept!r}, and nothing was logged there yet")
    lines = sorted((line for path in files for line in _lines(path.read_bytes())), key=lambda line: line["time"])
    _show(name, [line for line in lines if name in (None, line["service"])][-limit or len(lines) :], as_)
    if follow:
        _show(name, _following(folder), as_)


def _show(name: str | None, lines: Iterable[dict[str, Any]], as_: str) -> None:
    for line in lines:
        if name in (None, line["service"]):
            _say(line, as_)


def _remote(http: "Http", name: str | None, limit: int, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Yield what the server of another machine has; it is asked once a second when more is wanted."""
    if name is None:
        right = "name the service: lepton service logs NAME"
        raise Invalid(f"a server gives the log of one service at a time: {right}", errors=[FieldError("name", right)])
    path, after, shown = f"/services/{check_name(name, 'service')}/access-log", "", set[str]()
    most = min(limit, MOST) or MOST
    while True:
        found = http.call("GET", path, params={"limit": most, "after": after})["items"]
        new = [line for line in found if line["time"] > after or line["id"] not in shown]
        yield from new
        if not follow:
            return
        if new:
            shown = {line["id"] for line in found if line["time"] == new[-1]["time"]} | (
                shown if new[-1]["time"] == after else set()
            )
            after = new[-1]["time"]
        most = MOST
        time.sleep(REMOTE_SECONDS)


def _following(folder: Path) -> Iterator[dict[str, Any]]:
    at = {path: (path.stat().st_ino, path.stat().st_size) for path in folder.glob("access-*.jsonl")}
    while True:
        time.sleep(LOOK_SECONDS)
        found: list[dict[str, Any]] = []
        for path in folder.glob("access-*.jsonl"):
            try:
                with path.open("rb") as file:
                    number, done = at.get(path, (0, 0))
                    now = path.stat().st_ino
                    file.seek(done if now == number else 0)  # one that was moved aside begins anew
                    data = file.read()
            except OSError:
                continue
            data = data[: data.rfind(b"\n") + 1]
            at[path] = (now, (done if now == number else 0) + len(data))
            found += _lines(data)
        yield from sorted(found, key=lambda line: line["time"])


def _lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines() if line.startswith(b"{") and line.endswith(b"}")]


def _say(line: dict[str, Any], as_: str) -> None:
    if as_ == "table":
        about = (
            f"{line['service'] or '-'} v{line['version']} {line['variant']}"
            if line["version"]
            else line["service"] or "-"
        )
        print(
            f"{line['time']}  {line['status']}  {line['ms']:9.3f} ms  {about}  {line['method']} {line['path']}  {line['key']}  {line['id']}",
            flush=True,
        )
    elif as_ == "json":
        print(json.dumps(line), flush=True)
    else:
        output.emit(as_, line, lambda: "")


@app.command("dashboard")
def dashboard(
    alerts: Annotated[bool, typer.Option("--alerts", help="Print Prometheus' alert rules instead.")] = False,
) -> None:
    """Print a dashboard that Grafana imports, or alert rules for Prometheus.

    Example: lepton service dashboard > leptonai.json

    Example: lepton service dashboard --alerts > leptonai-rules.yml
    """
    from leptonai.sdk import dashboards

    print(dashboards.alerts() if alerts else json.dumps(dashboards.dashboard(), indent=2), end="" if alerts else "\n")
