"""What cannot be told is one clear sentence, and the rest of the report is made, with everything asked for at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from tests.evaluation.test_cross import asked as crossing
from tests.evaluation.test_work import learnt
from tests.support.handle import FileHandle, reader_of
from tests.support.warm import libraries

from leptonai.core.errors import Invalid
from leptonai.core.nouns import Run
from leptonai.evaluation.cross_work import cross_validate
from leptonai.evaluation.spec import Details, Evaluate, Report
from leptonai.evaluation.work import evaluate
from leptonai.sdk.report_card import card
from leptonai.sdk.report_page import page

ROWS = 240


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    libraries()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def people(seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    spend = random.normal(size=ROWS)
    return {
        "age": random.normal(40, 10, ROWS),
        "spend": spend,
        "street": np.array([f"street {at % 200}" for at in range(ROWS)], dtype=object),
        "left": np.where(spend > 0, "yes", "no").astype(object),
    }


def everything(handle: FileHandle, run: Run, table: dict[str, Any], target: str = "left", **more: Any) -> Report:
    """Evaluate with all that there is, look that the page and the card are made, and that all of it is JSON."""
    handle.datasets["test"] = reader_of(table, target)
    asked = Evaluate(
        run=run.id, data="test", costs={"fp": 1, "fn": 5}, sensitive=("street",), importance=True, explain=True,
        robustness=True, outliers=True, learnt_from="train", resamples=50, **more,
    )  # fmt: skip
    record = evaluate(asked, handle)
    json.dumps(record, allow_nan=False)
    report, details = Report.model_validate(record), Details.model_validate_json(handle.read(record["details"]))
    json.dumps(details.model_dump(mode="json"), allow_nan=False)
    assert page(report, details).count("<h2>") > 3
    assert card(report, details, {}).startswith("---")
    return report


def classifier(tmp_path: Path, model: Any, **spec: Any) -> tuple[FileHandle, Run]:
    return learnt(tmp_path / "c", people(), "left", model, features=("age", "spend"), **spec)


def test_one_class_only_in_the_test_rows_and_many_values_of_a_sensitive_column(tmp_path: Path) -> None:
    handle, run = classifier(tmp_path, LogisticRegression())
    table = people(1)
    table["left"][:] = "no"
    report = everything(handle, run, table)
    notes = "\n".join(report.notes)
    assert "roc_auc and average_precision are not given: all rows are of class 'no'" in notes
    assert "no threshold is chosen: all rows are of class 'no'" in notes
    assert "fairness by 'street' is not told: it has more than 20 values; make groups of them" in notes
    assert report.metrics["accuracy"] < 0.9
    assert report.explanation["columns"][0]["column"] == "spend"
    assert report.outliers["fifths"]
    assert report.robustness["told"]


def test_the_same_answer_to_every_row(tmp_path: Path) -> None:
    handle, run = classifier(tmp_path, DummyClassifier())
    report = everything(handle, run, people(1), positive="maybe")
    notes = "\n".join(report.notes)
    assert "of every row" in notes
    assert "positive='maybe' has no meaning here: one of no, yes" in notes
    assert {one["share"] for one in report.explanation["columns"]} == {0.0}


def test_answers_that_are_no_numbers(tmp_path: Path) -> None:
    from torch import nn

    model = nn.Sequential(nn.LazyLinear(2))
    handle, run = classifier(tmp_path, model, epochs=3)
    table = people(1)
    table["age"][3:9] = 1e300  # beyond what float32 holds
    report = everything(handle, run, table)
    assert report.left_out == 6
    assert "not finite for 6 of 240 rows" in report.notes[0]
    assert report.explanation["columns"]
    table["age"][:] = 1e300
    with pytest.raises(Invalid, match="not finite for 240 rows: it did not learn"):
        everything(handle, run, table)


def test_what_is_for_classes_is_a_note_where_numbers_are_told(tmp_path: Path) -> None:
    table = {name: values for name, values in people().items() if name != "left"}
    handle, run = learnt(tmp_path / "v", table, "age", LinearRegression(), features=("spend",))
    report = everything(handle, run, table, "age", positive="yes")
    notes = "\n".join(report.notes)
    assert "no threshold is chosen: costs of false alarms and misses are for two classes" in notes
    assert "positive='yes' has no meaning here: the model gives numbers" in notes
    assert "attacks are not told" in notes
    table["age"][:] = 40.0
    assert "r2 is not given: all targets are the same" in everything(handle, run, table, "age").notes


def test_a_model_and_a_dataset_that_do_not_match(tmp_path: Path) -> None:
    handle, run = classifier(tmp_path, LogisticRegression())
    table = people(1)
    spend = table.pop("spend")
    with pytest.raises(Invalid, match="test has no column 'spend', which the model needs"):
        everything(handle, run, table)
    table |= {"spend": spend, "left": np.full(ROWS, "perhaps", dtype=object)}
    with pytest.raises(Invalid, match="has the value 'perhaps', which is none of the classes learnt: no, yes"):
        everything(handle, run, table)


def test_one_class_only_in_a_fold(tmp_path: Path) -> None:
    spec, handle = crossing(tmp_path, LogisticRegression(), "kind", folds=4, by="time", column="day", resamples=0)
    table = handle.datasets["d"].read()
    kind = np.array(["no"] * 120 + ["yes", "no"] * 60, dtype=object)
    handle.datasets["d"] = reader_of({**table, "kind": kind}, "kind")
    report = Report.model_validate(cross_validate(spec, handle))
    notes = "\n".join(report.notes)
    assert "fold 1 is not judged: the target 'kind' has one class only, 'no'" in notes
    assert [one["fold"] for one in report.folds] == [3, 4]
    assert report.metrics["accuracy"] > 0
    spec = spec.model_copy(update={"curve": (0.02,), "noise": (0.5,)})
    (handle.folder / "checkpoint").unlink()
    again = Report.model_validate(cross_validate(spec, handle))
    assert again.metrics == report.metrics
