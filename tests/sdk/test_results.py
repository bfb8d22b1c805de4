"""History and Report: what they hold, and how they show it."""

import json

import pytest

from leptonai.core.nouns import Run as RunRecord
from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk.client import Client
from leptonai.sdk.results import History, Report
from leptonai.sdk.runs import Run

RUN = Run(RunRecord.new(stage="train", spec={}), Client(home="nowhere"))


def test_history_is_like_that_of_keras() -> None:
    history = History(RUN, {"loss": [2.0, 1.0], "val_loss": [3.0]}, {"epochs": 2})
    assert history.history["loss"] == [2.0, 1.0] == history["loss"]
    assert history.epoch == [0, 1]
    assert len(history) == 2
    assert history.params == {"epochs": 2}
    assert history.run is RUN
    assert "val_loss" in repr(history)
    assert "<table>" in history._repr_html_()


def test_a_long_history_shows_its_ends() -> None:
    history = History(RUN, {"loss": [float(i) for i in range(1000)]}, {})
    lines = repr(history).splitlines()
    assert len(lines) < 20
    assert "1000" in lines[-1]
    assert "…" in repr(history)


def report(**more: object) -> Report:
    fields: dict[str, object] = {
        "task": "classification", "rows": 100, "metrics": {"accuracy": 0.9, "f1": 0.85}, "classes": ("no", "yes"),
        "confusion": ((45, 5), (5, 45)), "per_class": {"no": {"f1": 0.9}, "yes": {"f1": 0.8}}, "notes": ("a note",),
    }  # fmt: skip
    return Report(ReportRecord.model_validate({**fields, **more}), RUN)


def test_a_report_is_an_object_json_and_a_table() -> None:
    made = report()
    assert made.accuracy == 0.9
    assert made.metrics["f1"] == 0.85
    assert made.confusion[0] == (45, 5)
    assert (made.task, made.rows, made.classes) == ("classification", 100, ("no", "yes"))
    assert made.per_class["yes"]["f1"] == 0.8
    assert json.loads(made.json()) == json.loads(json.dumps(made.to_dict()))
    shown = repr(made)
    assert "accuracy" in shown
    assert "0.9000" in shown
    assert "a note" in shown
    assert "45" in shown
    assert "Classification on 100 rows" in made._repr_html_()


def test_a_report_of_values_shows_its_metrics() -> None:
    made = report(task="regression", metrics={"mae": 1.0, "r2": 0.5}, classes=(), confusion=(), per_class={}, notes=())
    assert made.r2 == 0.5
    assert "mae" in repr(made)


def test_a_metric_that_was_not_measured_names_those_that_were() -> None:
    with pytest.raises(AttributeError, match="accuracy, f1"):
        _ = report().precision
    assert not hasattr(report(), "__rich_console__")


def test_many_classes_do_not_flood_the_prompt() -> None:
    names = tuple(map(str, range(100)))
    matrix = tuple(tuple(0 for _ in names) for _ in names)
    made = report(classes=names, confusion=matrix, per_class={n: {"f1": 1.0} for n in names})
    assert len(repr(made).splitlines()) < 20
