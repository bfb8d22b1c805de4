"""``lepton dataset clean``: a new version by declared steps, or what it would be."""

from typing import TYPE_CHECKING, Annotated

import typer

from leptonai.cli import output
from leptonai.cli.dataset import Ref, app
from leptonai.cli.flags import Output, SpecFile, merge, need

if TYPE_CHECKING:
    from rich.console import RenderableType

    from leptonai.sdk.cleaning import Cleaned

Steps = Annotated[
    list[str] | None,
    typer.Option(
        "--step", metavar="STEP", help="Such as impute:age=median or drop_duplicates; repeatable, in this order."
    ),
]


@app.command("clean")
def clean(
    dataset: Ref,
    step: Steps = None,
    name: Annotated[str | None, typer.Option(help="Of the dataset that is made; default: the same.")] = None,
    learn_from: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="A part of it: means and bounds are learnt from its rows only."),
    ] = None,
    file: SpecFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Go through all rows, and show what would change.")
    ] = False,
    as_: Output = "table",
) -> None:
    """Make a new version by steps; the old one stays.

    Steps: drop_duplicates, impute:COLUMN=median, clip:COLUMN=iqr, flag:COLUMN=zscore, drop_outliers:COLUMN=quantiles,
    cast:COLUMN=number, text:COLUMN=lower, denoise_images:COLUMN=median, smooth:COLUMN=11, resample:TIME=1h,
    cap_categories:COLUMN=20, drop:COLUMN, select:COLUMN,COLUMN, rename:OLD=NEW. A file has them as [[steps]].

    Example: lepton dataset clean people --step drop_duplicates --step impute:age=median --dry-run
    """
    from leptonai.sdk import cleaning, client
    from leptonai.sdk.datasets import made_by

    document = merge(file, {"steps": step or None, "name": name, "learn_from": learn_from})
    need(document, "steps")
    steps = document.pop("steps")
    via = client.current()
    spec = cleaning.spec_of(dataset, steps, dry_run=dry_run or None, **document)
    record, report = cleaning.run(via, spec)
    if dry_run:
        output.emit(as_, report.to_dict(), report.__rich__)
        return
    made = made_by(via, record)
    output.emit(as_, made.record.model_dump(mode="json"), lambda: _both(report, repr(made)))


def _both(report: "Cleaned", words: str) -> "RenderableType":
    from rich.console import Group

    return Group(report.__rich__(), output.words(words))
