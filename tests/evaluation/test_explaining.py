"""What answers come from: the columns that matter come first, and heat lies where the picture, or the text, says it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation.test_work import diabetes, learnt, wine
from tests.support.handle import FileHandle

from leptonai.core.errors import Invalid, MissingExtra
from leptonai.core.nouns import Run
from leptonai.core.signature import FeatureType
from leptonai.evaluation import explaining, places
from leptonai.evaluation.explain_work import explain
from leptonai.evaluation.spec import Details, Evaluate, Explain, Report
from leptonai.evaluation.work import evaluate
from leptonai.sdk.report_card import card
from leptonai.sdk.report_page import page
from leptonai.training.export import export
from leptonai.training.spec import Export

Array = np.ndarray[Any, Any]


pytestmark = pytest.mark.usefixtures("warm", "here")


def corners(rows: int) -> dict[str, Any]:
    """Pictures with a bright square: at the upper left of one kind, at the lower right of the other."""
    random = np.random.default_rng(0)
    kind = random.integers(0, 2, rows)
    images = random.integers(0, 60, (rows, 12, 12, 1), np.uint8)
    for image, one in zip(images, kind, strict=True):
        image[slice(0, 4) if one else slice(8, 12), slice(0, 4) if one else slice(8, 12)] += 180
    return {"image": images, "kind": np.array([f"kind {one}" for one in kind], dtype=object)}


def published(handle: FileHandle, run: Run, tmp_path: Path) -> Run:
    exporting = FileHandle(tmp_path / "export", "export", handle.datasets, [run])
    exporting.blobs = handle.blobs
    made = exporting.run.model_copy(update={"result": export(Export(run=run.id, name="x"), exporting)})
    handle.runs[made.id] = made
    return made


def asked(handle: FileHandle, made: Run, rows: Any, **more: Any) -> Any:
    blob = handle.write(json.dumps(rows).encode())
    result = explain(Explain(model="models:/x/1", run=made.id, rows=blob, data="train", **more), handle)
    return result, json.loads(handle.read(result["details"]))["rows"]


def test_a_table_in_a_report_and_row_by_row(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    handle, run = learnt(tmp_path, wine(), "kind", LogisticRegression())
    record = evaluate(Evaluate(run=run.id, data="test", explain=True, resamples=0), handle)
    report = Report.model_validate(record)
    columns = report.explanation["columns"]
    assert {one["column"] for one in columns} == {"f0", "f1", "f2", "f3", "f4", "strong"}
    assert [one["share"] for one in columns] == sorted((one["share"] for one in columns), reverse=True)
    assert report.explanation["method"] == "Shapley values"
    details = Details.model_validate_json(handle.read(record["details"]))
    assert "What its answers come from" in page(report, details)
    assert "### What its answers come from" in card(report, details, {})
    made = published(handle, run, tmp_path)
    row = {"f0": 14.2, "f1": 1.7, "f2": 2.4, "f3": 15.6, "f4": 127.0, "strong": "yes"}
    result, found = asked(handle, made, [row, row | {"f0": None, "strong": None}])
    assert result["rows"] == 2
    assert found[0]["of"] == "kind 0"
    assert found[0]["base"] + sum(one["share"] for one in found[0]["shares"]) == pytest.approx(found[0]["score"])
    assert {one["column"]: one["value"] for one in found[0]["shares"]} == row
    native = dict(made.result or {})
    native["files"].pop("model.onnx")  # as of a version that is served by its framework
    _, again = asked(handle, made, [row])
    assert again[0]["score"] == pytest.approx(found[0]["score"], abs=1e-5)
    with pytest.raises(Invalid, match="row 1: column 'f1' is missing"):
        asked(handle, made, [{"f0": 1.0}])
    with pytest.raises(Invalid, match="a JSON list of 1 to 100 objects"):
        asked(handle, made, [])


def test_numbers(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    handle, run = learnt(tmp_path, diabetes(), "y", LinearRegression())
    report = Report.model_validate(evaluate(Evaluate(run=run.id, data="test", explain=True), handle))
    assert report.explanation["method"] == "Shapley values, sampled"
    assert {one["column"] for one in report.explanation["columns"][:4]} >= {"s5", "bmi"}


def test_pictures_by_gradients_and_by_hiding(tmp_path: Path) -> None:
    from torch import nn

    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(64, 2))
    handle, run = learnt(tmp_path, corners(160), "kind", model, epochs=12, batch_size=16)
    record = evaluate(Evaluate(run=run.id, data="test", explain=True, resamples=0), handle)
    report = Report.model_validate(record)
    assert report.metrics["accuracy"] > 0.9
    assert report.explanation["method"] == "integrated gradients, Grad-CAM"
    details = Details.model_validate_json(handle.read(record["details"]))
    assert len(details.examples) == 8
    for one in details.examples:
        heat = np.array(one["where"]["integrated gradients"])
        assert heat.shape == (12, 12)
        own, other = (heat[:4, :4], heat[8:, 8:]) if one["of"] == "kind 1" else (heat[8:, 8:], heat[:4, :4])
        assert own.sum() > abs(other.sum())
    text = page(report, details)
    assert "; img-src data:" in text
    assert "Where it looks" in text
    made = published(handle, run, tmp_path)
    image = corners(1)["image"][0].tolist()
    _, (hidden,) = asked(handle, made, [{"image": image}])
    _, (slopes,) = asked(handle, made, [{"image": image}], gradients=True)
    assert hidden["of"] == slopes["of"]
    assert hidden["method"] == "hidden squares"
    brightest = np.unravel_index(np.argmax(hidden["where"]["hidden squares"]), (12, 12))
    assert corners(1)["image"][0][brightest][0] > 150


def test_without_captum_parts_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(batch: Any, of: Any) -> Any:
        raise MissingExtra("install something")

    def scores(batch: Any) -> Array:
        bright = batch["image"].astype(float).mean((1, 2, 3)) / 255
        return np.stack([1 - bright, bright], 1)

    table = corners(20)
    subject = explaining.Subject(scores, ("no", "yes"), {"image": FeatureType.IMAGE}, missing)
    notes: list[str] = []
    about, examples = explaining.summary(subject, {"image": table["image"]}, np.zeros(20, int), 0, notes)
    assert about["method"] == "hidden squares"
    assert len(examples) == 8
    assert notes == ["install something; until then, parts are hidden"]


def test_words_that_are_left_out() -> None:
    def scores(batch: Any) -> Array:
        good = np.array(["good" in (text or "") for text in batch["text"]], float)
        return np.stack([1 - good, good], 1)

    text = np.array(["a good   film"], dtype=object)
    assert places.of_text(scores, {"text": text}, "text", 1) == [(0, 1, 0.0), (2, 6, 1.0), (9, 13, 0.0)]
    subject = explaining.Subject(scores, ("no", "yes"), {"text": FeatureType.TEXT})
    (found,) = explaining.rows(subject, {"text": text}, {}, 0)
    assert max(found["words"], key=lambda one: one["share"])["word"] == "good"
    assert (found["of"], found["method"]) == ("yes", "words left out")
    empty = np.array([None], dtype=object)
    assert explaining.rows(subject, {"text": empty}, {}, 0)[0]["words"] == []


def test_few_rows_are_their_own_background() -> None:
    def scores(batch: Any) -> Array:
        return np.asarray(batch["a"] * 2.0)

    rows = {"a": np.arange(4.0)}
    subject = explaining.Subject(scores, (), {"a": FeatureType.NUMBER})
    about, _ = explaining.summary(subject, rows, np.zeros(4), 0, [])
    assert about["columns"] == [{"column": "a", "share": pytest.approx(2.0)}]
