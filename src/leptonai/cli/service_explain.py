"""``lepton service explain``: why a service answers as it does."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.flags import Output
from leptonai.cli.service import ServiceName, _rows, app


@app.command("explain")
def explain(
    name: ServiceName,
    rows: Annotated[
        str,
        typer.Option("--rows", "-r", metavar="ROWS", help="JSON, @file.json, @- for stdin, or an image file."),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATASET",
            help="Its rows stand for what is not known; default: what the model learnt from.",
        ),
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Of images and texts: by gradients (Captum), not by hiding parts.")
    ] = False,
    as_: Output = "table",
) -> None:
    """Say what each column of a row, or each part of an image or text, adds to the answer.

    Example: lepton service explain churn --rows '{"age": 41, "plan": "basic"}'
    """
    from leptonai.sdk import show
    from leptonai.sdk.services import get_service

    more = {"data": data, "gradients": gradients or None}
    found = get_service(name).explain(_rows(rows), **{key: value for key, value in more.items() if value is not None})
    each = found if isinstance(found, list) else [found]
    lines = [[number, *line] for number, one in enumerate(each, 1) for line in _lines(one)]
    output.emit(as_, found, lambda: show.table(["row", "answer", "score", "part", "value", "share"], lines))


def _lines(one: Mapping[str, Any]) -> list[list[object]]:
    answer = [one["of"], one["score"]]
    if "shares" in one:
        return [[*answer, share["column"], output.flat(share["value"]), share["share"]] for share in one["shares"]]
    if "words" in one:
        words = sorted(one["words"], key=lambda word: -abs(word["share"]))
        return [[*answer, "word", word["word"], word["share"]] for word in words[:20]]
    return [
        [*answer, f"{way}, row {down + 1}, column {across + 1}", None, share]
        for way, grid in one["where"].items()
        for share, down, across in sorted(
            ((share, down, across) for down, line in enumerate(grid) for across, share in enumerate(line)),
            key=lambda found: -abs(found[0]),
        )[:5]
    ]
