"""``lepton run show``: what an evaluation found, as a table, one HTML page, a model card, or JSON."""

from pathlib import Path
from typing import Annotated

import typer

from leptonai.cli import output
from leptonai.cli.flags import Output
from leptonai.cli.run import RunId, app


@app.command("show")
def show_(
    run: RunId,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one page with plots; it needs no network.")
    ] = None,
    card: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a model card, in Markdown.")] = None,
    as_: Output = "table",
) -> None:
    """Show the report of an evaluation: metrics with intervals, curves, notes; of a search for a model its leaderboard.

    Example: lepton run show run_01… --html report.html --card README.md
    """
    from leptonai.sdk import show
    from leptonai.sdk.reports import report_of
    from leptonai.sdk.runs import get_run

    held = get_run(run)
    if held.stage == "auto":
        from leptonai.cli import run_auto

        run_auto.show_found(held, html, card, as_)
        return
    found = report_of(held)
    if html is not None:
        found.html(html)
        show.note(f"{html} is written")
    if card is not None:
        found.card(card)
        show.note(f"{card} is written")
    output.emit(as_, found.to_dict(), found.__rich__)
