"""``lepton dataset profile``: what is in the rows, and what asks for a second look."""

from pathlib import Path
from typing import Annotated

import typer

from leptonai.cli import output
from leptonai.cli.dataset import Ref, app
from leptonai.cli.flags import Output


@app.command("profile")
def profile(
    dataset: Ref,
    against: Annotated[
        str | None, typer.Option(metavar="DATASET", help="An older version: tell drift from it.")
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="The rows that models of it are tested on: are they in it too?"),
    ] = None,
    sample: Annotated[int | None, typer.Option(min=100, help="Rows that costly things are told from.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one page with plots; it needs no network.")
    ] = None,
    as_: Output = "table",
) -> None:
    """Look at every row: distributions, outliers, duplicates, correlations, class balance, leakage, drift.

    Example: lepton dataset profile churn@v2 --against churn@v1 --html churn.html
    """
    from leptonai.sdk import client, profiles, show

    found = profiles.run(client.current(), dataset, against=against, test=test, sample=sample)
    if html is not None:
        found.html(html)
        show.note(f"{html} is written")
    output.emit(as_, found.to_dict(), found.__rich__)
