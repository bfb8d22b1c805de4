"""``lepton service replicas``: how many worker processes compute a service."""

from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import DryRun, Output
from leptonai.cli.service import Replicas, ServiceName, app


@app.command("replicas")
def replicas(
    name: ServiceName,
    range_: Replicas = None,
    wait_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Nine in ten requests wait no longer, else one more is started.")
    ] = None,
    down_seconds: Annotated[
        float | None, typer.Option(min=0.5, help="For so long fewer must have been enough before one goes.")
    ] = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Show or change how many replicas a service may have; tells how many there are, and what changed last and why.

    Example: lepton service replicas toxic

    Example: lepton service replicas toxic --replicas 1..4 --wait-ms 50
    """
    from leptonai.sdk import show
    from leptonai.sdk.services import get_service

    given: dict[str, Any] = {"wait_ms": wait_ms, "down_seconds": down_seconds}
    aim = {field: value for field, value in given.items() if value is not None}
    asked: dict[str, Any] = {} if range_ is None else {"range": range_ or None}
    if dry_run:
        output.would(as_, f"change how many replicas service {name} has", {**asked, **aim})
        return
    found = get_service(name).replicas(**asked, **aim)
    data = found._asdict() | {"asked": None if found.asked is None else found.asked.model_dump(mode="json")}
    facts = {
        "range": "as its version says" if found.asked is None else str(found.asked),
        "wanted": found.wanted,
        "ready": found.ready,
        "why": found.why,
        **{change["time"][:19].replace("T", " "): change["text"] for change in found.changes},
    }
    output.emit(
        as_,
        data,
        lambda: show.facts_table(
            {k: output.flat(v) for k, v in facts.items() if v not in (None, "")}, title=f"Service {name}"
        ),
    )
