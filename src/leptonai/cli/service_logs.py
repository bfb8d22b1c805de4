"""``lepton service logs`` and ``lepton service dashboard``: the access log, and what Grafana and Prometheus read."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import Output
from leptonai.cli.service import app
from leptonai.core import settings
from leptonai.core.errors import NotFound

LOOK_SECONDS = 0.3


@app.command("logs")
def logs(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this service; default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="Begin with at most so many lines.")] = 50,
    as_: Output = "table",
) -> None:
    """Show the access log of the services on this machine, one line for each request that was logged.

    The setting access_log (LEPTONAI_ACCESS_LOG) says which are: errors, on, off, or a share.

    Example: lepton service logs churn --follow
    """
    from leptonai.sdk import client

    folder = Path(client.current().home) / "logs"
    files = sorted(folder.glob("access-*.jsonl*"))
    if not files and not follow:
        kept = settings.get("access_log")
        raise NotFound(f"there is no access log in {folder}: access_log is {kept!r}, and a log is where the plane runs")
    lines = sorted((line for path in files for line in _lines(path.read_bytes())), key=lambda line: line["time"])
    for line in [line for line in lines if name in (None, line["service"])][-limit or len(lines) :]:
        _say(line, as_)
    if follow:
        for line in _following(folder):
            if name in (None, line["service"]):
                _say(line, as_)


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
