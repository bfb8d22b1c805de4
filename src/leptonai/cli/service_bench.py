"""``lepton service bench``: how quick a service of yours is, and how much it can take."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import Output
from leptonai.cli.service import ServiceName, app
from leptonai.core.errors import FieldError, Invalid

if TYPE_CHECKING:
    from rich.console import RenderableType

    from leptonai.sdk.load import Level

_PICTURES = (".svg", ".html", ".json")


@app.command("bench")
def bench(
    name: ServiceName,
    connections: Annotated[
        str, typer.Option(metavar="LIST", help="How many at once, one after the other.")
    ] = "1,2,4,8,16,32,64",
    seconds: Annotated[float, typer.Option(min=0.2, max=60.0, help="For each of them.")] = 2.0,
    rate: Annotated[
        float | None,
        typer.Option(min=1, max=1e6, help="Requests a second that come whether or not there is an answer."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="In each request, where values are made up.")] = 1,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Rows to send: a JSON list.")
    ] = None,
    recent: Annotated[bool, typer.Option("--recent", help="Send what the prediction log holds.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Draw it: .svg, .html, or .json.")] = None,
    remote: Annotated[bool, typer.Option("--remote", help="Load a service on another machine; you may.")] = False,
    as_: Output = "table",
) -> None:
    """Load a service of yours and show how long answers take as the load grows.

    The values are made up by the model's signature, unless you give a file or say --recent.

    Example: lepton service bench churn

    Example: lepton service bench churn --rate 500 --connections 64 --seconds 10 --out churn.html
    """
    from leptonai.sdk import bench as benches
    from leptonai.sdk import curve, show
    from leptonai.sdk.services import get_service

    at_once = _numbers(connections)
    if out is not None and out.suffix not in _PICTURES:
        right = f"a name that ends in {', '.join(_PICTURES)}"
        raise Invalid(f"{out} is no picture that can be drawn: use {right}", errors=[FieldError("out", right)])
    service = get_service(name)
    address = benches.address_of(service, remote=remote)
    if file is not None:
        bodies = benches.from_rows(_rows(file))
    else:
        signature = benches.signature_of(service)
        bodies = benches.recent(service, signature) if recent else benches.made_up(signature, rows)
    requests = benches.prepared(service, bodies, friendly=file is not None, key=service.key)
    levels: list[Level] = []
    for place, number in enumerate(at_once, 1):
        show.note(f"{number} connections for {show.span(seconds)} ({place} of {len(at_once)})")
        levels.append(benches.measured(address, requests, number, seconds, rate))
    data = {"service": name, "levels": [{**level._asdict(), "client_bound": level.bound} for level in levels]}
    if out is not None:
        title = f"{name}: {len(requests[0])} bytes a request"
        drawn = {".svg": curve.svg, ".html": curve.html}.get(out.suffix)
        out.write_text(json.dumps(data, indent=2) if drawn is None else drawn(levels, title), "utf-8")
        show.note(f"drawn to {out}")
    output.emit(as_, data, lambda: _view(levels))
    if any(level.bound for level in levels):
        show.note("where it says 'client', this client took a whole core: the service may do more than it can ask")


def _numbers(text: str) -> list[int]:
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < number <= 2048 for number in found):
        right = "numbers from 1 to 2048, such as 1,8,64"
        raise Invalid(f"--connections {text!r}: use {right}", errors=[FieldError("connections", right)])
    return found


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"{file} is not a JSON file: {error}", errors=[FieldError("file", str(error))]) from error
    rows = data.get("rows") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Invalid(f'{file} must hold a list of rows, [{{"column": value}}]', errors=[FieldError("file", "rows")])
    return rows


def _view(levels: "list[Level]") -> "RenderableType":
    from leptonai.sdk import show

    most = max((level.per_second for level in levels), default=0.0) or 1.0
    slowest = max((level.p99 for level in levels), default=0.0) or 1.0
    lines = [
        [
            level.connections, round(level.per_second), _bar(level.per_second / most), f"{level.p50:.2f}", f"{level.p90:.2f}",
            f"{level.p99:.2f}", _bar(level.p99 / slowest), level.failed, "client" if level.bound else "",
        ]
        for level in levels
    ]  # fmt: skip
    return show.table(["connections", "req/s", "", "p50 ms", "p90 ms", "p99 ms", " ", "failed", "  "], lines)


def _bar(share: float, wide: int = 16) -> str:
    whole, part = divmod(round(share * wide * 8), 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else "")
