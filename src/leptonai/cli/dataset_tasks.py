"""``lepton dataset label-task``, ``label-tasks``, ``label-rows``, ``label-answer`` and ``label-apply``: people label rows."""

from typing import Annotated, Any

import typer

from leptonai.cli import output
from leptonai.cli.dataset import Ref, app
from leptonai.cli.flags import DryRun, Limit, Output
from leptonai.core.errors import FieldError, Invalid

Task = Annotated[str, typer.Argument(metavar="TASK", help="The id of a label task.")]

COLUMNS: output.Columns = {
    "task": lambda t: t["id"],
    "dataset": lambda t: t["data"].removeprefix("datasets:/"),
    "column": lambda t: t["column"],
    "rows": lambda t: len(t["rows"]),
    "labellers": lambda t: t["labellers"],
    "made": lambda t: output.ago(t["created"]),
}


@app.command("label-task")
def label_task(
    dataset: Ref,
    rows: Annotated[list[str], typer.Argument(metavar="ROW", help="Rows, from 0, or spans of them such as 100-199.")],
    column: Annotated[str | None, typer.Option(help="What is labelled; default: the target.")] = None,
    of: Annotated[list[str] | None, typer.Option("--class", help="A class that there is; repeatable.")] = None,
    labellers: Annotated[int, typer.Option(min=1, max=100, help="How many people label each row.")] = 1,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Ask people to label rows. They need keys with dataset:label.

    Example: lepton dataset label-task partly 17 23 100-149 --labellers 2
    """
    from leptonai.sdk.label_tasks import create_label_task

    numbers = [row for text in rows for row in _span(text)]
    options: dict[str, Any] = {"column": column, "classes": of or [], "labellers": labellers}
    if dry_run:
        output.would(as_, "ask people for labels", {"dataset": dataset, "rows": len(numbers), **options})
        return
    made = create_label_task(dataset, numbers, **options)
    output.emit(as_, made.record.model_dump(mode="json"), lambda: output.words(repr(made)))


@app.command("label-tasks")
def label_tasks(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only those of this dataset.")] = None,
    limit: Limit = 50,
    as_: Output = "table",
) -> None:
    """List label tasks, newest first."""
    from leptonai.sdk.label_tasks import list_label_tasks

    found = [task.record.model_dump(mode="json") for task in list_label_tasks(name, limit=limit)]
    output.emit_list(as_, found, COLUMNS, "label task")


@app.command("label-rows")
def label_rows(
    task: Task,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many rows.")] = 5,
    as_: Output = "table",
) -> None:
    """Show the rows that you should label next, and which labels there are."""
    from leptonai.sdk.datasets import Rows
    from leptonai.sdk.label_tasks import get_label_task

    found = get_label_task(task)
    rows = Rows({name: _plain(value) for name, value in row.items()} for row in found.next(count))
    output.emit(as_, {"classes": list(found.record.classes), "rows": list(rows)}, lambda: rows)


@app.command("label-answer")
def label_answer(
    task: Task,
    labels: Annotated[
        list[str], typer.Argument(metavar="ROW=LABEL", help="A label for a row; ROW= when you cannot tell.")
    ],
    as_: Output = "table",
) -> None:
    """Say what the labels of rows are.

    Example: lepton dataset label-answer lab_01… 17=cat 23=dog
    """
    from leptonai.sdk.label_tasks import get_label_task

    found = get_label_task(task)
    by_text = {str(value): value for value in found.record.classes}
    answers: dict[int, str | int | None] = {}
    for text in labels:
        row, equals, label = text.partition("=")
        if not row.isdigit() or not equals:
            raise Invalid(f"{text!r} is not ROW=LABEL, such as 17=cat", errors=[FieldError("labels", "ROW=LABEL")])
        answers[int(row)] = by_text.get(label, label) if label else None
    found.answer(answers)
    output.emit(as_, found.progress, lambda: output.words(_told(found.progress)))


@app.command("label-status")
def label_status(task: Task, as_: Output = "table") -> None:
    """Show how far a task is, how far people agree, and on which rows they do not."""
    from leptonai.sdk.label_tasks import get_label_task

    found = get_label_task(task)
    conflicts = [{"row": row, **says} for row, says in found.conflicts().items()]
    told = {"task": found.id, "progress": found.progress, "agreement": found.agreement(), "conflicts": conflicts}
    output.emit(as_, told, lambda: output.words(_status(told)))


@app.command("label-apply")
def label_apply(
    task: Task,
    least: Annotated[int, typer.Option(min=1, help="How many people have to agree on a label.")] = 1,
    dry_run: DryRun = False,
    as_: Output = "table",
) -> None:
    """Write the labels into the next version of the dataset, and say how far people agree."""
    from leptonai.sdk.label_tasks import get_label_task

    found = get_label_task(task)
    agreement = found.agreement()
    if dry_run:
        facts = {"labels": len(found.labels(least=least)), "conflicts": len(found.conflicts()), **agreement}
        output.would(as_, "write labels", facts)
        return
    made = found.apply(least=least)
    record = {**made.record.model_dump(mode="json"), "agreement": agreement}
    output.emit(as_, record, lambda: output.words(f"{made!r}\n{_agreed(agreement)}"))


def _span(text: str) -> range:
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and (not last.isdigit() or int(last) < int(first))):
        raise Invalid(
            f"{text!r} is no row: write 17, or a span such as 100-199", errors=[FieldError("rows", "17 or 100-199")]
        )
    return range(int(first), int(last or first) + 1)


def _told(progress: dict[str, int]) -> str:
    people = "1 person" if progress["labellers"] == 1 else f"{progress['labellers']} people"
    return f"{progress['complete']} of {progress['rows']} rows have all their answers, of {people} so far"


def _agreed(agreement: dict[str, Any]) -> str:
    if agreement["kappa"] is None:
        return "no two people labelled the same row yet"
    return f"people agree in {agreement['share']:.0%} of their common answers, kappa {agreement['kappa']:.2f}"


def _status(told: dict[str, Any]) -> str:
    lines = [_told(told["progress"]), _agreed(told["agreement"])]
    pairs = told["agreement"]["pairs"]
    if len(pairs) > 1:
        lines += [f"  {' and '.join(it['between'])}: {it['rows']} rows, kappa {it['kappa']:.2f}" for it in pairs]
    for conflict in told["conflicts"][:50]:
        says = ", ".join(f"{by} {label}" for by, label in conflict.items() if by != "row")
        lines.append(f"row {conflict['row']}: {says}")
    if len(told["conflicts"]) > 50:
        lines.append(f"… and {len(told['conflicts']) - 50} rows more: -o json has all")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
