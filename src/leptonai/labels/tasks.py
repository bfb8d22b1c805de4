"""Label tasks: what is asked of people, what they said, and which rows come next. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Dataset, Frozen, LabelAnswers, LabelTask
from leptonai.core.signature import FeatureType

MOST_ROWS = 100_000
Said = dict[str, dict[int, str | int | None]]
"""Labels by who gave them and row."""


class NewTask(Frozen):
    """Rows to be labelled, by so many people each."""

    data: str
    rows: tuple[int, ...] = Field(min_length=1, max_length=MOST_ROWS)
    column: str | None = None  # default: the target
    classes: tuple[str | int, ...] = Field(default=(), max_length=10_000)  # default: those that the column has
    labellers: int = Field(default=1, ge=1, le=100)
    note: str = Field(default="", max_length=10_000)


def task_of(asked: NewTask, dataset: Dataset, by: str) -> LabelTask:
    """Return the task. Raises `Invalid` that names the field."""
    column = asked.column or dataset.target
    found = next((it for it in dataset.columns if it.name == column), None)
    if found is None:
        listed = ", ".join(it.name for it in dataset.columns[:30])
        raise Invalid(
            f"there is no column {column or ''!r} to label: the columns are {listed}",
            errors=[FieldError("column", f"one of {listed}")],
        )
    if found.type not in (FeatureType.CATEGORY, FeatureType.BOOLEAN):
        raise Invalid(
            f"column {found.name!r} is of type {found.type}: people label categories",
            errors=[FieldError("column", "a column of categories")],
        )
    classes = tuple(dict.fromkeys(asked.classes or found.categories))
    if len(classes) < 2:
        raise Invalid(
            f"to label {found.name!r} takes two classes or more, and there {'is 1' if classes else 'are none'}: say which there are (classes)",
            errors=[FieldError("classes", "at least two")],
        )
    if found.dtype == "int64" and any(isinstance(value, str) for value in classes):
        raise Invalid(
            f"the classes of column {found.name!r} are whole numbers", errors=[FieldError("classes", "whole numbers")]
        )
    for row in asked.rows:
        if not 0 <= row < dataset.rows:
            right = f"0 to {dataset.rows - 1}"
            raise Invalid(f"there is no row {row}: rows are numbered {right}", errors=[FieldError("rows", right)])
    if len(set(asked.rows)) < len(asked.rows):
        raise Invalid("rows: a row is named twice", errors=[FieldError("rows", "each row once")])
    return LabelTask.new(
        name=dataset.name,
        data=f"datasets:/{dataset.name}@v{dataset.version}",
        column=found.name,
        classes=classes,
        rows=asked.rows,
        labellers=asked.labellers,
        note=asked.note,
        by=by,
    )


def check_answers(task: LabelTask, answers: Mapping[int, Any]) -> None:
    """Raise `Invalid` for a row that is not in the task, or a label that is none of its classes."""
    rows, classes = set(task.rows), set(task.classes)
    for row, label in answers.items():
        if row not in rows:
            raise Invalid(f"row {row} is not in this task", errors=[FieldError(f"answers.{row}", "a row of the task")])
        if label is not None and label not in classes:
            listed = ", ".join(map(str, task.classes[:30]))
            raise Invalid(
                f"row {row}: {label!r} is not one of the classes: {listed}, or null for a row that one cannot tell",
                errors=[FieldError(f"answers.{row}", f"one of {listed}")],
            )


def said(answers: Iterable[LabelAnswers]) -> Said:
    """Return what each person says of each row; of a row that he answered twice, the later answer. Oldest first."""
    found: Said = {}
    for batch in answers:
        found.setdefault(batch.by, {}).update(batch.answers)
    return found


def waiting(task: LabelTask, answers: Said, by: str, count: int) -> list[int]:
    """Return the next rows for a person: those he has not answered and that need more people, the ones begun first."""
    given: dict[int, int] = {}
    for labels in answers.values():
        for row in labels:
            given[row] = given.get(row, 0) + 1
    mine = answers.get(by, {})
    open_rows = [row for row in task.rows if row not in mine and given.get(row, 0) < task.labellers]
    return sorted(open_rows, key=lambda row: -given.get(row, 0))[:count]


def progress(task: LabelTask, answers: Said) -> dict[str, int]:
    """Return how many rows there are, how many have an answer, and how many have enough of them."""
    given: Sequence[int] = [sum(row in labels for labels in answers.values()) for row in task.rows]
    return {
        "rows": len(task.rows),
        "begun": sum(count > 0 for count in given),
        "complete": sum(count >= task.labellers for count in given),
        "labellers": len(answers),
    }
