"""``lepton service top``: what services do now."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import Output
from leptonai.cli.service import app
from leptonai.core.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from leptonai.sdk.numbers import Look, Process, Row


@app.command("top")
def top(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this service; default: all.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, max=60.0, help="Between two looks.")] = 2.0,
    as_: Output = "table",
) -> None:
    """Watch requests, times by stage, queues, batches, errors and memory; Ctrl-C ends it.

    Example: lepton service top

    Example: lepton service top churn --once -o json
    """
    from leptonai.sdk import numbers, show

    planes = _planes(name)
    before = _look(planes)
    if once or as_ != "table" or not show.console().is_terminal:
        time.sleep(seconds)
        now = _look(planes)
        rows, processes = _of(name, numbers.rows(before, now)), numbers.processes(before, now)
        data = {"services": [row._asdict() for row in rows], "processes": [one._asdict() for one in processes]}
        output.emit(as_, data, lambda: _view(rows, processes))
        return
    from rich.live import Live

    with Live(_view([], []), console=show.console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            now = _look(planes)
            live.update(_view(_of(name, numbers.rows(before, now)), numbers.processes(before, now)), refresh=True)
            before = now


def _planes(name: str | None) -> list[str]:
    """Return the addresses of the planes that the services, or this one, answer at."""
    from leptonai.sdk.services import get_service, list_services

    found = [get_service(name)] if name else list_services()
    urls = [service.record.status.url for service in found if service.record.status.url]
    if not urls:
        raise Unavailable(
            f"service {name} does not answer yet" if name else "no service answers: see lepton service list"
        )
    return list(dict.fromkeys(url.partition("/services/")[0] for url in urls))


def _look(planes: list[str]) -> "Look":
    from leptonai.sdk import client, numbers, wire

    samples: list[Any] = []
    for base in planes:
        answer = client.current().plane(base).raw("GET", "/metrics")
        if answer.status >= 400:
            raise wire.error_of(answer.status, answer.headers, answer.body, f"the metrics of {base}")
        samples += numbers.parse(answer.body.decode())
    return numbers.Look(samples, time.monotonic())


def _of(name: str | None, rows: "list[Row]") -> "list[Row]":
    return [row for row in rows if name in (None, row.service)]


def _view(rows: "list[Row]", processes: "list[Process]") -> "RenderableType":
    from rich.console import Group

    from leptonai.sdk import show

    columns = [
        "service",
        "variant",
        "version",
        "req/s",
        "errors/s",
        "p50 ms",
        "p99 ms",
        "queue ms",
        "model ms",
        "waiting",
        "batch",
        "replicas",
    ]
    lines = [
        [
            row.service, row.variant, row.version, f"{row.rate:.1f}", f"{row.errors:.1f}", _ms(row.p50["total"]),
            _ms(row.p99["total"]), _ms(row.p99["queue"]), _ms(row.p99["model"]), int(row.queue),
            "" if row.batch is None else f"{row.batch:.1f}", _replicas(row),
        ]
        for row in rows
    ]  # fmt: skip
    took = [
        [f"process {p.process}", show.size(p.memory), f"{p.cpu:.0%} of a core", int(p.connections)] for p in processes
    ]
    return Group(
        show.table(columns, lines), "queue and model: the 99th percentile",
        show.table(["plane", "memory", "processor", "connections"], took),
    )  # fmt: skip


def _replicas(row: "Row") -> str:
    if row.replicas is None:
        return ""
    return f"{row.replicas}" if row.replicas == row.wanted else f"{row.replicas} of {row.wanted}"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.2f}"
