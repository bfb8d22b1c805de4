"""``lepton dataset export``: the rows of a version as a file that is not encrypted any more."""

from pathlib import Path
from typing import Annotated

import typer

from leptonai.cli.flags import DryRun
from leptonai.core.errors import FieldError, Invalid

ENDINGS = (".parquet", ".csv", ".croissant", ".json")


def export(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name, name@v2, or datasets:/name@v2?part=…")],
    file: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to: .parquet, .csv, or .croissant (metadata, with the rows beside it).",
        ),
    ],
    column: Annotated[
        list[str] | None, typer.Option("--column", metavar="NAME", help="Only this column; repeatable.")
    ] = None,
    mask: Annotated[bool, typer.Option("--mask", help="Leave the values of personal columns out.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Write the rows to a file that is not encrypted any more.

    In a CSV file, text that a spreadsheet would take for a formula gets a ' in front.

    Example: lepton dataset export churn@v2 -o churn.parquet
    """
    from leptonai.cli import output
    from leptonai.sdk import show
    from leptonai.sdk.datasets import get_dataset

    if file.suffix not in ENDINGS:
        right = "a name that ends in .parquet, .csv or .croissant"
        raise Invalid(f"{file} has no ending that is known: use {right}", errors=[FieldError("output", right)])
    found = get_dataset(dataset)
    if dry_run:
        output.would("table", f"write {found.rows:,} rows of {found.name}@v{found.version} to {file}")
        return
    writes = {".parquet": found.to_parquet, ".csv": found.to_csv}
    rows = writes.get(file.suffix, found.to_croissant)(file, columns=column, mask=mask)
    show.note(f"{rows:,} rows of {found.name}@v{found.version} are in {file}")
