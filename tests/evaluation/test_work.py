"""An evaluation Run measures what a training learnt, and the published version of it: both tell the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.handle import FileHandle, reader_of

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.nouns import Run
from leptonai.evaluation.published import feed
from leptonai.evaluation.spec import Details, Evaluate, Report
from leptonai.evaluation.work import evaluate
from leptonai.training.export import export
from leptonai.training.spec import Export, Train
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


def wine() -> dict[str, Any]:
    from sklearn.datasets import load_wine

    found = load_wine()
    order = np.random.default_rng(0).permutation(len(found.data))
    table: dict[str, Any] = {f"f{i}": found.data[order, i] for i in range(5)}
    table["strong"] = np.array(["yes" if v > 13 else None for v in found.data[order, 0]], dtype=object)
    return table | {"kind": np.array([f"kind {k}" for k in found.target[order]], dtype=object)}


def diabetes() -> dict[str, Any]:
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    return {name: found.data[:, i] for i, name in enumerate(found.feature_names)} | {"y": found.target}


def learnt(tmp_path: Path, table: dict[str, Any], target: str, model: Any, **spec: Any) -> tuple[FileHandle, Run]:
    cut = int(0.75 * len(table[target]))
    parts = {"train": slice(0, cut), "test": slice(cut, None)}
    data = {ref: reader_of({n: v[rows] for n, v in table.items()}, target) for ref, rows in parts.items()}
    handle = FileHandle(tmp_path / "job", datasets=data)
    framework = plugins.framework_of(model)
    packed = framework.pack(model, spec.pop("compiled", {}))
    given = {"framework": framework.name, "flavour": packed.flavour, "code": handle.write(packed.code)}
    return handle, handle.ended(train(Train(data="train", **given, **spec), handle))


def test_a_classifier_and_its_published_version(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    handle, run = learnt(tmp_path, wine(), "kind", LogisticRegression())
    report = Report.model_validate(evaluate(Evaluate(run=run.id, data="test", batch_size=7), handle))
    assert (report.task, report.rows, report.classes) == ("classification", 45, ("kind 0", "kind 1", "kind 2"))
    assert report.metrics["accuracy"] > 0.75
    assert report.metrics["roc_auc"] > 0.9
    assert np.sum(report.confusion) == 45
    assert handle.shown[-1] == (45, 45, "rows")
    exporting = FileHandle(tmp_path / "export", "export", handle.datasets, [run])
    exporting.blobs = handle.blobs
    made = exporting.run.model_copy(update={"result": export(Export(run=run.id, name="wine"), exporting)})
    handle.runs[made.id] = made
    published = Report.model_validate(evaluate(Evaluate(run=made.id, model="models:/wine/1", data="test"), handle))
    assert published.metrics == pytest.approx(report.metrics, abs=1e-5)
    assert published.confusion == report.confusion
    made.result["files"].pop("model.onnx")  # as of a version that is served by its framework
    native = evaluate(Evaluate(run=made.id, model="models:/wine/1", data="test"), handle)
    assert report.latency["rows"] > 0
    assert 0 < report.latency["p50"] <= report.latency["p99"]
    beside = {"details": None, "latency": {}}
    assert Report.model_validate(native).model_copy(update=beside) == report.model_copy(update=beside)
    details = Details.model_validate_json(handle.read(report.details or ""))
    assert set(details.curves["roc"]) == {"kind 0", "kind 1", "kind 2"}
    assert "its own framework" in handle.lines[-1]


def test_it_is_said_where_the_model_learnt_from_what_it_is_measured_on(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    handle, run = learnt(tmp_path, wine(), "kind", LogisticRegression())
    handle.runs[run.id] = run.model_copy(update={"spec": {"data": "train"}})
    told = {ref: evaluate(Evaluate(run=run.id, data=ref, slices=False), handle)["notes"] for ref in ("train", "test")}
    assert [note for note in told["train"] if "learnt from rows that are among these (train)" in note]
    assert not [note for note in told["test"] if "learnt from" in note]


def test_a_regressor(tmp_path: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    compiled = {"optimizer": torch.optim.Adam(model.parameters(), lr=0.05), "loss": "mse"}
    handle, run = learnt(tmp_path, diabetes(), "y", model, compiled=compiled, epochs=60)
    report = Report.model_validate(evaluate(Evaluate(run=run.id, data="test"), handle))
    assert set(report.metrics) == {"mae", "rmse", "r2"}
    assert report.metrics["r2"] > 0.3
    assert report.classes == ()


def test_two_models_on_the_same_rows(tmp_path: Path) -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression

    handle, good = learnt(tmp_path, wine(), "kind", LogisticRegression())
    exporting = FileHandle(tmp_path / "export", "export", handle.datasets, [good])
    exporting.blobs = handle.blobs
    made = exporting.run.model_copy(update={"result": export(Export(run=good.id, name="wine"), exporting)})
    poor_handle, poor = learnt(tmp_path / "poor", wine(), "kind", DummyClassifier())
    handle.runs |= {made.id: made, poor.id: poor}
    both = FileHandle(tmp_path / "poor" / "job", "evaluate", handle.datasets, [made, poor, good])
    both.blobs = poor_handle.blobs
    graph = made.result["files"]["model.onnx"]
    made.result["files"]["model.onnx"] = both.write(handle.read(graph))  # where this Run reads
    asked = Evaluate(run=poor.id, data="test", against="models:/wine/1", against_run=made.id)
    found = Report.model_validate(evaluate(asked, both)).compared
    assert (found["with"], found["metric"], found["rows"]) == ("models:/wine/1", "accuracy", 45)
    assert found["own"] < found["other"]
    assert found["p"] < 0.01
    same = evaluate(asked.model_copy(update={"run": good.id}), _seeing(handle, made, graph))
    assert same["compared"]["p"] == 1.0


def _seeing(handle: FileHandle, made: Run, graph: str) -> FileHandle:
    made.result["files"]["model.onnx"] = graph
    return handle


def test_data_that_the_model_cannot_be_measured_on(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    handle, run = learnt(tmp_path, wine(), "kind", LogisticRegression())
    table = wine()
    table["kind"] = np.array(["kind 0", "kind 9"] * 89, dtype=object)
    handle.datasets["strange"] = reader_of(table, "kind")
    with pytest.raises(Invalid, match="'kind' of strange has the value 'kind 9'"):
        evaluate(Evaluate(run=run.id, data="strange"), handle)
    handle.datasets["narrow"] = reader_of({"f0": table["f0"], "kind": table["kind"]}, "kind")
    with pytest.raises(Invalid, match="no column 'f1', which the model needs"):
        evaluate(Evaluate(run=run.id, data="narrow"), handle)
    handle.datasets["empty"] = reader_of({name: values[:0] for name, values in table.items()}, "kind")
    with pytest.raises(Invalid, match="empty has no rows"):
        evaluate(Evaluate(run=run.id, data="empty"), handle)


def test_a_missing_category_is_fed_as_one_that_there_is_not() -> None:
    from leptonai.core.signature import TensorSpec

    words = TensorSpec(name="a", datatype="BYTES", shape=(-1,), type="category", categories=("", "?"))
    assert feed(words, np.array(["x", None], dtype=object)).tolist() == ["x", "??"]
    codes = TensorSpec(name="a", datatype="INT64", shape=(-1,), type="category", categories=(0, 1))
    assert feed(codes, np.array([1.0, np.nan])).tolist() == [1, -1]
    number = TensorSpec(name="a", datatype="FP64", shape=(-1,), type="number")
    assert feed(number, np.array([1, 2])).dtype == np.float64
