"""``lepton dataset check``: whether the rows keep rules."""

from typing import Annotated

import typer

from leptonai.cli import output
from leptonai.cli.dataset import Ref, app
from leptonai.cli.flags import Output, SpecFile, merge, need


@app.command("check")
def check(
    dataset: Ref,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="RULE", help="Such as range:age=0..120 or unique:id; repeatable."),
    ] = None,
    file: SpecFile = None,
    as_: Output = "table",
) -> None:
    """Hold the rows against rules; ends with 1 where one is broken, and names the first bad rows.

    Rules: range:COLUMN=LOW..HIGH, unique:COLUMN, not_missing:COLUMN, regex:COLUMN=PATTERN, one_of:COLUMN=A,B,
    foreign_key:COLUMN=DATASET.COLUMN, fresh:COLUMN=7d, row_count=100.. A file has them as [[rules]]. Without any, those that
    the dataset was imported with.

    Example: lepton dataset check people --rule not_missing:age --rule range:age=0..120
    """
    from leptonai.sdk.datasets import get_dataset

    document = merge(file, {"rules": rule or None})
    found = get_dataset(dataset)
    if not found.rules:
        need(document, "rules")
    report = found.check(document.get("rules"))
    output.emit(as_, report.to_dict(), report.__rich__)
    if not report:
        raise typer.Exit(1)
