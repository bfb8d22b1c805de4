"""``lepton dataset label-errors``, ``auto-label``, ``pick-rows`` and ``relabel``: labels looked at and set."""

from typing import Annotated, Any, Literal

import typer

from leptonai.cli import output
from leptonai.cli.dataset import Ref, app
from leptonai.cli.flags import DryRun, Output
from leptonai.core.errors import FieldError, Invalid

Target = Annotated[str | None, typer.Option(help="The column of the labels, instead of the dataset's target.")]
TrainRun = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="A training Run whose model judges; default: one for the columns."),
]
Folds = Annotated[int, typer.Option(min=2, max=20, help="Parts; each is judged by a model of the others.")]
Feature = Annotated[list[str] | None, typer.Option("--feature", help="Judge by these columns only; repeatable.")]


def _document(target: str | None, run: str | None, folds: int, feature: list[str] | None) -> dict[str, Any]:
    return {"target": target, "run": run, "folds": folds, "train": {"features": feature} if feature else {}}


def _ref(dataset: str) -> tuple[Any, str]:
    from leptonai.sdk import client
    from leptonai.sdk.datasets import get_dataset

    return client.current(), get_dataset(dataset).ref


@app.command("label-errors")
def label_errors(
    dataset: Ref,
    target: Target = None,
    run: TrainRun = None,
    folds: Folds = 5,
    feature: Feature = None,
    as_: Output = "table",
) -> None:
    """Find the labels that are probably wrong, the worst first.

    Example: lepton dataset label-errors digits
    """
    from leptonai.sdk import labelling

    found = labelling.label_errors(*_ref(dataset), _document(target, run, folds, feature))
    output.emit(as_, found.to_dict(), found.__rich__)


@app.command("auto-label")
def auto_label(
    dataset: Ref,
    precision: Annotated[float, typer.Option(help="The share of the labels set that is to be right.")] = 0.95,
    target: Target = None,
    run: TrainRun = None,
    folds: Folds = 5,
    feature: Feature = None,
    as_: Output = "table",
) -> None:
    """Set the labels that a model is sure of, as a new version, and say how many are right on held-out labels.

    Example: lepton dataset auto-label digits --precision 0.98
    """
    from leptonai.sdk import labelling

    document = {**_document(target, run, folds, feature), "precision": precision}
    found = labelling.auto_label(*_ref(dataset), document)
    made = None if found.dataset is None else found.dataset.record.model_dump(mode="json")
    output.emit(as_, {**found.to_dict(), "dataset": made}, found.__rich__)


@app.command("pick-rows")
def pick_rows(
    dataset: Ref,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many rows.")] = 20,
    by: Annotated[Literal["margin", "entropy"], typer.Option(help="How doubt is measured.")] = "margin",
    target: Target = None,
    run: TrainRun = None,
    folds: Folds = 5,
    feature: Feature = None,
    as_: Output = "table",
) -> None:
    """Say which rows without a label a person should label next.

    Example: lepton dataset pick-rows digits --count 50
    """
    from leptonai.sdk import labelling

    document = {**_document(target, run, folds, feature), "count": count, "by": by}
    rows = labelling.pick_rows(*_ref(dataset), document)
    output.emit(as_, {"rows": rows}, lambda: output.words("\n".join(map(str, rows))))


@app.command("relabel")
def relabel(
    dataset: Ref,
    label: Annotated[list[str] | None, typer.Option(metavar="ROW=LABEL", help="Set a label; repeatable.")] = None,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Or take what this auto_label or label_errors Run found.")
    ] = None,
    target: Target = None,
    note: Annotated[str, typer.Option(help="Who says so; kept in the lineage.")] = "",
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Write labels into the next version; rows are numbered from 0.

    Example: lepton dataset relabel digits --label 17=3 --label 40=8 --note "looked at by Anna"
    """
    from leptonai.sdk import labelling
    from leptonai.sdk.datasets import get_dataset

    found = get_dataset(dataset)
    kind = next((column.dtype for column in found.columns if column.name == (target or found.target)), "str")
    pairs = dict(_pair(text, kind) for text in label or ())
    document = {"target": target, "note": note, "run": run, "rows": tuple(pairs), "labels": tuple(pairs.values())}
    if dry_run:
        output.would(as_, f"write {len(pairs) or 'the'} labels into the next version of {found.name}", document)
        return
    made = labelling.write(*_ref(dataset), document)
    output.emit(as_, made.record.model_dump(mode="json"), lambda: output.words(repr(made)))


def _pair(text: str, kind: str) -> tuple[int, Any]:
    row, equals, label = text.partition("=")
    if not equals or not row.isdecimal():
        raise typer.BadParameter(f"--label takes ROW=LABEL, such as 17=cat, not {text!r}")
    if kind == "str":
        return int(row), label
    try:
        value = {"true": 1.0, "false": 0.0}[label.lower()] if kind == "bool" else float(label)
    except (ValueError, KeyError):
        raise Invalid(
            f"the label {label!r} of row {row} is not one of the column, which holds {kind} values",
            errors=[FieldError(row, kind)],
        ) from None
    return int(row), int(value) if value.is_integer() and kind != "float64" else value
