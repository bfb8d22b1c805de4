"""``lepton dataset diff``: how two versions differ."""

from typing import Annotated

import typer

from leptonai.cli import output
from leptonai.cli.dataset import Ref, app
from leptonai.cli.flags import Output


@app.command("diff")
def diff(
    before: Ref,
    after: Ref,
    key: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="By which a row is the same row in both; repeatable.")
    ] = None,
    examples: Annotated[int | None, typer.Option(min=0, max=1000, help="Rows of each kind that are shown.")] = None,
    as_: Output = "table",
) -> None:
    """Compare two versions: columns, statistics, rows that were added, removed or changed.

    Example: lepton dataset diff people@v1 people@v2 --key id
    """
    from leptonai.sdk import client, diffs

    found = diffs.run(client.current(), before, after, key=tuple(key or ()) or None, examples=examples)
    output.emit(as_, found.to_dict(), found.__rich__)
