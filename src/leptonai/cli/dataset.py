"""``lepton dataset``: immutable, encrypted versions of your data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.dataset_export import export
from leptonai.cli.flags import DryRun, GetOutput, Limit, Output, SpecFile, merge, need, rules, step
from leptonai.core.errors import FieldError, Invalid

app = typer.Typer(name="dataset", help="Files become immutable, encrypted versions.", no_args_is_help=True)

Ref = Annotated[str, typer.Argument(metavar="DATASET", help="Name, name@v2, name@tag, or datasets:/name@v2.")]

COLUMNS: output.Columns = {
    "name": lambda d: d["name"],
    "version": lambda d: f"v{d['version']}",
    "tags": lambda d: d.get("tags", ""),
    "rows": lambda d: d["rows"],
    "columns": lambda d: len(d["columns"]),
    "target": lambda d: d["target"],
    "size": lambda d: output.size(d["bytes"]),
    "made": lambda d: output.ago(d["created"]),
}


def spec_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return what makes this dataset again, from the same files."""
    return {
        "name": record["name"],
        "files": [file["name"] for file in record.get("source", {}).get("files", [])],
        "target": record.get("target") or "",
        "types": {column["name"]: column["type"] for column in record.get("columns", [])},
        "image_size": record.get("source", {}).get("image_size"),
        "pii": [column["name"] for column in record.get("columns", []) if column.get("pii")],
        "checks": record.get("source", {}).get("checks"),
        "augment": record.get("source", {}).get("augment"),
    }


@app.command("create")
def create(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Its name; a known name gets a new version.")
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Tables (CSV, JSON Lines, Parquet, Arrow, NPZ, IDX), a folder or zip of them, or of "
            "images, sounds or texts by class; a URL such as s3://bucket/prefix.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column to predict; default: label, target or y, else the last. '' for none.")
    ] = None,
    column_type: Annotated[
        list[str] | None, typer.Option("--type", metavar="COLUMN=TYPE", help="Override an inferred type; repeatable.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="A table that says more of each image, sound or text.")
    ] = None,
    pii: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN,…", help="Personal columns, each with a key of its own; repeatable."),
    ] = None,
    unlabelled: Annotated[
        bool | None, typer.Option("--unlabelled", help="Rows may have no value of the target: it is found later.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            "--check", metavar="RULE", help="The rows must keep it, else nothing is made: range:age=0..120; repeatable."
        ),
    ] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP", help="Change rows on their way to a model: flip, or rotate:degrees=10; repeatable."
        ),
    ] = None,
    image_size: Annotated[str | None, typer.Option(metavar="HxW", help="Resize images, such as 32x32.")] = None,
    audio_rate: Annotated[int | None, typer.Option(help="Bring sounds to so many samples a second.")] = None,
    audio_seconds: Annotated[float | None, typer.Option(help="Bring sounds to one length.")] = None,
    sql: Annotated[str | None, typer.Option(help="In place of files: a query, asked from this machine.")] = None,
    url: Annotated[
        str | None, typer.Option(help="The database of the query, such as postgresql://user@host/name.")
    ] = None,
    file: SpecFile = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Make a dataset version of files. Several files become one table, in their order.

    Example: lepton dataset create churn data/2024.csv data/2025.csv --target churned --type plan=category
    """
    given = {
        "name": name,
        "files": files or None,
        "target": target,
        "types": dict(_pair(item) for item in column_type) if column_type else None,
        "labels": labels,
        "unlabelled": unlabelled,
        "image_size": _image_size(image_size) if image_size else None,
        "pii": [name for item in pii for name in item.split(",")] if pii else None,
        "checks": rules(check),
        "augment": [step(text) for text in augment] if augment else None,
        "audio_rate": audio_rate,
        "audio_seconds": audio_seconds,
        "sql": sql,
        "url": url,
    }
    document = merge(file, given, spec_of)
    need(document, "name", *(() if document.get("sql") else ("files",)))
    unknown = set(document) - set(given)
    if unknown:
        raise Invalid(
            f"the spec of a dataset has no {', '.join(sorted(unknown))}",
            errors=[FieldError(word, f"use one of {', '.join(given)}") for word in sorted(unknown)],
        )
    document = {word: value for word, value in document.items() if value is not None}
    if dry_run:
        _check_paths(document.get("files") or [])
        output.would(as_, "make a dataset", {word: value for word, value in document.items() if word != "url"})
        return
    from leptonai.sdk.datasets import create_dataset

    made = create_dataset(**document)
    record = made.record.model_dump(mode="json")
    output.emit(as_, record, lambda: output.words(repr(made)))


@app.command("append")
def append(
    dataset: Ref,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="As for create; the columns must be those of the dataset."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="A table that says more of each image, sound or text.")
    ] = None,
    sql: Annotated[str | None, typer.Option(help="In place of files: a query, asked from this machine.")] = None,
    url: Annotated[str | None, typer.Option(help="The database of the query.")] = None,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Make a new version of the rows of one, whose data it shares, and those of more files.

    Example: lepton dataset append churn data/2026.csv
    """
    from leptonai.sdk.datasets import get_dataset

    found = get_dataset(dataset)
    if dry_run:
        _check_paths(files or [])
        output.would(as_, "append to a dataset", {"dataset": found.ref, "files": files or [], "sql": sql})
        return
    made = found.append(files or None, labels=labels, sql=sql, url=url)
    output.emit(as_, made.record.model_dump(mode="json"), lambda: output.words(repr(made)))


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only versions of this one.")] = None,
    limit: Limit = 50,
    as_: Output = "table",
) -> None:
    """List dataset versions, newest first."""
    from leptonai.sdk import client
    from leptonai.sdk.tags import by_dataset

    found = list(client.current().http.pages("/datasets", params={"name": name}, limit=limit))
    tags = by_dataset(client.current(), name) if found else {}
    found = [{**one, "tags": tags.get(one["id"], "")} for one in found]
    output.emit_list(as_, found, COLUMNS, "dataset")


@app.command("get")
def get(dataset: Ref, as_: GetOutput = "table") -> None:
    """Show one version: its columns, target, digest and source."""
    from leptonai.sdk.datasets import get_dataset

    found = get_dataset(dataset)
    record = found.record.model_dump(mode="json")
    output.emit(as_, spec_of(record) if as_ == "toml" else record, lambda: output.words(repr(found)))


@app.command("head")
def head(
    dataset: Ref,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=20, help="How many rows.")] = 5,
    as_: Output = "table",
) -> None:
    """Show the first rows."""
    from leptonai.sdk.datasets import get_dataset

    first = get_dataset(dataset).head(rows)
    output.emit(as_, list(first), lambda: first)


@app.command("describe")
def describe(dataset: Ref, as_: Output = "table") -> None:
    """Show what is known of each column: type, missing values, mean, deviation, categories."""
    from leptonai.sdk.datasets import get_dataset

    found = get_dataset(dataset).describe()
    output.emit(as_, found.to_dict(), found.__rich__)


app.command("export")(export)


@app.command("delete")
def delete(dataset: Ref, dry_run: DryRun = False, as_: Output = "table") -> None:
    """Delete one version."""
    from leptonai.sdk import show
    from leptonai.sdk.datasets import get_dataset

    found = get_dataset(dataset)
    if dry_run:
        output.would(as_, f"delete dataset {found.name}@v{found.version}")
        return
    found.delete()
    show.note(f"dataset {found.name}@v{found.version} is deleted")


def _pair(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")
    if not equals or not name:
        raise typer.BadParameter(f"--type takes COLUMN=TYPE, such as plan=category, not {text!r}")
    return name, kind


def _check_paths(files: str | list[str]) -> None:
    """Raise `Invalid` that names the files that are not there."""
    paths = [files] if isinstance(files, str) else files
    if missing := [path for path in paths if "://" not in path and not Path(path).exists()]:
        raise Invalid(f"{missing[0]}: there is no such file", errors=[FieldError(p, "no such file") for p in missing])


def _image_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(f"--image-size takes HEIGHTxWIDTH, such as 32x32, not {text!r}")
    return int(height), int(width)
