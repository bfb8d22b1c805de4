"""Label tasks: rows that people are to label, and what they say."""

from functools import partial
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from leptonai.core.nouns import Audit, Frozen, LabelAnswers, LabelTask
from leptonai.core.stages import Changes
from leptonai.labels import tasks
from leptonai.server import opens
from leptonai.server.context import Context
from leptonai.server.routes.table import AtDesk, Cursor, Here, Limit, Routes, Who, Word
from leptonai.server.wire import Json, dump, one, page
from leptonai.server.writing import write

routes = Routes()
_PAGE = 500
_BODY = 4 << 20  # bytes of the longest list of rows


class Answers(Frozen):
    """Labels by row; null where one cannot tell."""

    answers: Annotated[dict[int, str | int | None], Field(min_length=1, max_length=10_000)]


def _said(here: Context, task: LabelTask) -> tasks.Said:
    found: list[LabelAnswers] = []
    after = None
    while some := here.catalog.find(LabelAnswers, {"task": task.id}, limit=_PAGE, after=after, oldest_first=True):
        found += some
        after = some[-1].id
    return tasks.said(found)


@routes.route("POST", "/label-tasks", "dataset:write", limit=_BODY)
def create_label_task(body: tasks.NewTask, here: Here, desk: AtDesk, who: Who) -> Response:
    """Ask people to label rows of a dataset version."""
    dataset = desk.dataset(body.data)
    opens.see_dataset(who, dataset)
    task = tasks.task_of(body, dataset, who.name)
    facts = {"data": task.data, "rows": len(task.rows)}
    audit = Audit.new(name="label.create", subject=task.id, by=who.name, facts=facts)
    write(here, lambda: Changes(add=(task,)), audit)
    return one(task, 201)


@routes.route("GET", "/label-tasks", "dataset:read")
def list_label_tasks(here: Here, name: Word = None, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """List label tasks, newest first."""
    return page(partial(here.catalog.find, LabelTask, {"name": name} if name is not None else {}), limit, cursor)


@routes.route("GET", "/label-tasks/{id}", "dataset:read")
def get_label_task(id: str, here: Here) -> Response:
    """Return a label task and how far it is."""
    task = here.catalog.get(LabelTask, id)
    return Json({**dump(task), "progress": tasks.progress(task, _said(here, task))})


@routes.route("GET", "/label-tasks/{id}/rows", "dataset:label")
def next_label_rows(id: str, here: Here, who: Who, count: Annotated[int, Query(ge=1, le=1000)] = 20) -> Response:
    """Return the numbers of the rows that the caller should label next."""
    task = here.catalog.get(LabelTask, id)
    return Json({"rows": tasks.waiting(task, _said(here, task), who.name, count)})


@routes.route("POST", "/label-tasks/{id}/answers", "dataset:label", limit=_BODY)
def answer_label_task(id: str, body: Answers, here: Here, who: Who) -> Response:
    """Say what the labels of rows are; a later answer of the same person stands in place of an earlier one."""
    task = here.catalog.get(LabelTask, id)
    tasks.check_answers(task, body.answers)
    record = LabelAnswers.new(name=task.name, task=task.id, answers=body.answers, by=who.name)
    audit = Audit.new(name="label.answer", subject=task.id, by=who.name, facts={"rows": len(body.answers)})
    write(here, lambda: Changes(add=(record,)), audit)
    return one(record, 201)


@routes.route("GET", "/label-tasks/{id}/answers", "dataset:read")
def label_answers(id: str, here: Here) -> Response:
    """Return all answers, by who gave them and row."""
    task = here.catalog.get(LabelTask, id)
    found = _said(here, task)
    return Json({"answers": {by: {str(row): label for row, label in labels.items()} for by, labels in found.items()}})


@routes.route("DELETE", "/label-tasks/{id}", "dataset:write")
def delete_label_task(id: str, here: Here, who: Who) -> Response:
    """Delete a label task and its answers."""
    task = here.catalog.get(LabelTask, id)
    while some := here.catalog.find(LabelAnswers, {"task": task.id}, limit=_PAGE):
        here.catalog.change(drop=some)
    audit = Audit.new(name="label.delete", subject=task.id, by=who.name)
    write(here, lambda: Changes(drop=(task,)), audit)
    return Response(status_code=204)
