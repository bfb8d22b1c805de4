"""Rows that are unlike what was learnt from are found and named; rows that are like it are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation.test_work import learnt
from tests.support.handle import column_of, reader_of

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.evaluation.outliers import Far, Outliers
from leptonai.evaluation.spec import Details, Evaluate, Report
from leptonai.evaluation.work import evaluate
from leptonai.sdk.report_card import card
from leptonai.sdk.report_page import page

pytestmark = pytest.mark.usefixtures("warm", "here")


def people(rows: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    age, spend = random.normal(40, 10, rows), random.normal(size=rows)
    plan = np.where(random.random(rows) < 0.3, "pro", "basic").astype(object)
    return {"age": age, "spend": spend, "plan": plan, "left": np.where(spend > 0, "yes", "no").astype(object)}


def found(table: dict[str, Any], other: dict[str, Any], **kinds: str) -> Far:
    columns = [column_of(name, values, kinds.get(name)) for name, values in table.items()]
    far = Outliers(columns, table, 0)
    rows = len(next(iter(other.values())))
    for at in range(0, rows, 100):
        far.add({name: values[at : at + 100] for name, values in other.items()})
    return far.found(np.zeros(rows), "accuracy")


def test_a_report_names_strange_rows(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    handle, run = learnt(tmp_path, people(800, 0), "left", LogisticRegression())
    asked = Evaluate(run=run.id, data="test", outliers=True, resamples=0, learnt_from="train", batch_size=64)
    usual = Report.model_validate(evaluate(asked, handle))
    assert usual.outliers["share"] < 0.05
    assert [one["rows"] for one in usual.outliers["fifths"]] == [40] * 5
    strange = people(200, 1)
    strange["age"][7], strange["plan"][7] = 400.0, "gold"
    strange["left"][7] = "no" if strange["left"][7] == "yes" else "yes"
    handle.datasets["test"] = reader_of(strange, "left")
    record = evaluate(asked, handle)
    report, details = Report.model_validate(record), Details.model_validate_json(handle.read(record["details"]))
    first = details.farthest[0]
    assert first["row"] == 7
    assert first["share"] == 0
    assert first["unusual"] == {"age": "400", "plan": "gold (never in 600 rows learnt from)"}
    assert "Rows far from what it learnt from" in page(report, details)
    assert "gold (never in" in page(report, details)
    assert "### Rows far from what it learnt from" in card(report, details, {})
    gone = Report.model_validate(evaluate(asked.model_copy(update={"learnt_from": None}), handle))
    assert "outliers are not told: the data that the model learnt from is gone" in gone.notes
    assert gone.metrics == report.metrics
    few = reader_of({name: values[:5] for name, values in people(5, 0).items()}, "left")
    handle.datasets["train"] = few
    notes = Report.model_validate(evaluate(asked, handle)).notes
    assert any("too few rows" in note for note in notes)


def test_other_rows_are_told_from_rows_of_the_same_kind() -> None:
    chances = [found(people(400, seed), people(1000, seed + 50)).report["p"] for seed in range(8)]
    assert min(chances) > 1e-3
    moved = people(1000, 1)
    moved["age"] += 40
    assert found(people(2000, 0), moved).report["p"] < 1e-10


def test_pictures_texts_sounds_and_missing_values() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 100, (300, 12, 12, 3), np.uint8)
    odd = images[:50].copy()
    odd[3] = 255
    assert found({"image": images}, {"image": odd}).rows[0]["row"] == 3
    texts = np.array([" ".join(random.choice(["a", "good", "film", "bad"], 6)) for _ in range(300)], dtype=object)
    other = texts[:50].copy()
    other[9], other[10] = "quux corge grault " * 9, None
    assert {one["row"] for one in found({"text": texts}, {"text": other}, text="text").rows[:2]} == {9, 10}
    sounds = random.normal(size=(300, 800)).astype(np.float32)
    loud = sounds[:50].copy()
    loud[5] *= 9
    assert found({"sound": sounds}, {"sound": loud}, sound="tensor").rows[0]["row"] == 5
    numbers = random.normal(size=300)
    holes = numbers[:50].copy()
    holes[2] = np.nan
    first = found({"n": numbers}, {"n": holes}).rows[0]
    assert first["row"] == 2
    assert first["unusual"]["n"] == "missing"


def test_what_has_no_numbers_is_refused() -> None:
    boxes = Column(name="boxes", type=FeatureType.BOXES, shape=(), dtype="object")
    with pytest.raises(ValueError, match="no column that can be told"):
        Outliers([boxes], {"boxes": np.zeros(100)}, 0)
