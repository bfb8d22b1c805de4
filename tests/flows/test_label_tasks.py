"""People label rows: shared out with keys of their own, their agreement told, what most say written as the next version."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.home import data_home
from typer.testing import CliRunner

import leptonai
from leptonai.cli.main import app
from leptonai.core.errors import Denied, Invalid, NotFound
from leptonai.sdk import client
from leptonai.sdk.client import Client
from leptonai.sdk.label_tasks import LabelTask

ROWS = 30


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with data_home(tmp_path_factory.mktemp("tasks") / "home") as folder:
        yield folder


@pytest.fixture
def data(home: Path) -> leptonai.Dataset:
    label = ["cat", "dog", "", "", ""] * (ROWS // 5)
    text = "weight,label\n" + "".join(f"{i / 2},{name}\n" for i, name in enumerate(label))
    path = home.parent / "animals.csv"
    path.write_text(text)
    return leptonai.create_dataset("animals", path, unlabelled=True)


def person(task: LabelTask, name: str) -> Iterator[LabelTask]:
    """Give the task as somebody sees it who may label and nothing else."""
    made = client.current().http.call("POST", "/keys", json={"name": name, "scopes": ["dataset:label"]})
    via = Client(client.current().url, made["secret"])
    try:
        yield LabelTask(task.record, via)
    finally:
        via.close()


def test_rows_are_shared_out_and_what_most_say_is_written(data: leptonai.Dataset) -> None:
    rows = [2, 3, 4, 7, 8]
    task = data.label_task(rows, labellers=2)
    assert task.record.classes == ("cat", "dog")
    assert task.progress == {"rows": 5, "begun": 0, "complete": 0, "labellers": 0}
    anna, ben, cora = (person(task, name) for name in ("anna", "ben", "cora"))
    first, second, third = next(anna), next(ben), next(cora)
    try:
        numbers = first._client.http.call("GET", f"/label-tasks/{task.id}/rows", params={"count": 3})["rows"]
        assert numbers == [2, 3, 4]
        first.answer({2: "cat", 3: "cat", 4: None, 7: "dog"})
        first.answer({3: "dog"})  # on second thoughts
        assert first._client.http.call("GET", f"/label-tasks/{task.id}/rows")["rows"] == [8]
        assert second._client.http.call("GET", f"/label-tasks/{task.id}/rows")["rows"] == [2, 3, 4, 7, 8]  # begun first
        second.answer({2: "cat", 3: "dog", 4: "dog", 7: "cat"})
        assert third._client.http.call("GET", f"/label-tasks/{task.id}/rows")["rows"] == [8]
        with pytest.raises(Denied, match="dataset:write"):
            first.apply()
        with pytest.raises(Invalid, match="row 5 is not in this task"):
            first.answer({5: "cat"})
        with pytest.raises(Invalid, match="'bird' is not one of the classes: cat, dog"):
            first.answer({2: "bird"})
    finally:
        for one in (anna, ben, cora):
            one.close()  # type: ignore[attr-defined]
    assert task.progress == {"rows": 5, "begun": 4, "complete": 4, "labellers": 2}
    assert task.conflicts() == {7: {"anna": "dog", "ben": "cat"}}
    agreement = task.agreement()
    told = CliRunner().invoke(app, ["dataset", "label-status", task.id]).output
    assert "4 of 5 rows have all their answers, of 2 people so far" in told and "row 7: anna dog, ben cat" in told
    assert "agree in 67% of their common answers, kappa 0.40" in told
    assert [pair["rows"] for pair in agreement["pairs"]] == [3]  # of row 4 one of them could not tell
    assert agreement["share"] == pytest.approx(2 / 3)
    assert agreement["kappa"] == pytest.approx(0.4)  # 2 of 3 alike; by chance (1/3 · 2/3 + 2/3 · 1/3) = 4/9
    assert task.labels() == {2: "cat", 3: "dog", 4: "dog"}
    assert task.labels(least=2) == {2: "cat", 3: "dog"}
    made = task.apply(least=2)
    assert (made.version, made.rows) == (2, ROWS)
    assert made.record.source["relabel"]["note"] == f"label task {task.id}"
    assert [row["label"] for row in made.head(4)] == ["cat", "dog", "cat", "dog"]
    shown = data.label_task([0]).next(5)
    assert shown == [{"row": 0, "weight": 0.0, "label": "cat"}]
    task.delete()
    with pytest.raises(NotFound):
        leptonai.get_label_task(task.id)


def test_a_task_from_the_command_line(data: leptonai.Dataset) -> None:
    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["dataset", *words])
        assert done.exit_code == code, done.output
        return done.output

    made = json.loads(run("label-task", "animals@v1", "2", "12-14", "-o", "json"))
    assert made["rows"] == [2, 12, 13, 14]
    assert made["id"] in run("label-tasks", "animals", "-o", "json")
    shown = json.loads(run("label-rows", made["id"], "-o", "json"))
    assert [row["row"] for row in shown["rows"]] == [2, 12, 13, 14]
    assert json.loads(run("label-answer", made["id"], "2=dog", "12=cat", "13=", "-o", "json"))["complete"] == 3
    assert json.loads(run("label-apply", made["id"], "-o", "json"))["rows"] == ROWS
    for words in (("label-task", "animals", "x"), ("label-answer", made["id"], "2:dog")):
        assert CliRunner().invoke(app, ["dataset", *words]).exit_code != 0


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([ROWS], {}, "there is no row 30: rows are numbered 0 to 29"),
        ([1, 1], {}, "a row is named twice"),
        ([1], {"column": "nothing"}, "no column 'nothing'"),
        ([1], {"column": "weight"}, "people label categories"),
        ([1], {"classes": ["one"]}, "takes two classes or more, and there is 1"),
        ([], {}, "rows"),
    ],
)
def test_what_cannot_be_labelled_is_named(
    rows: list[int], options: dict[str, object], words: str, data: leptonai.Dataset
) -> None:
    with pytest.raises(Invalid, match=words):
        data.label_task(rows, **options)  # type: ignore[arg-type]
