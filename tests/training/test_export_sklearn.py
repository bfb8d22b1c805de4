"""scikit-learn models go through training, export and ONNX Runtime, and give what scikit-learn gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from tests.support.export import learn, mixed, pictures, publish
from tests.support.handle import ArrayReader, FileHandle

from leptonai.core import plugins
from leptonai.core.signature import Signature
from leptonai.training import onnx_inputs
from leptonai.training.export_check import TOLERANCE
from leptonai.training.spec import Fitted

CLASSIFIERS = [
    LogisticRegression(),
    RandomForestClassifier(20),
    HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=2),
    GradientBoostingClassifier(n_estimators=5),
    MLPClassifier((8,), max_iter=20),
    make_pipeline(MinMaxScaler(), LogisticRegression()),
    make_pipeline(StandardScaler(), RandomForestClassifier(10)),
    VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
    StackingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], LogisticRegression()),
    LinearSVC(),
    SVC(),
]
REGRESSORS = [
    LinearRegression(),
    RandomForestRegressor(10),
    HistGradientBoostingRegressor(max_iter=10, min_samples_leaf=2),
    make_pipeline(StandardScaler(), Ridge()),
    make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=2)),
]


def name(model: Any) -> str:
    return str(model)[:50].replace("\n", "").replace(" ", "")


def exported(desk: FileHandle) -> dict[str, Any]:
    result = publish(desk)
    assert result["note"] == ""
    assert result["lineage"]["export"]["difference"] <= TOLERANCE * 100
    return result


@pytest.mark.parametrize("model", CLASSIFIERS, ids=name)
@pytest.mark.parametrize("task", ["binary", "three classes"])
@pytest.mark.parametrize("options", [{"category_encoding": "onehot"}, {}], ids=["onehot", "index"])
def test_classifiers(model: Any, task: str, options: dict[str, Any], tmp_path: Path) -> None:
    desk = learn(model, mixed(task), tmp_path, **options)
    result = exported(desk)
    signature = Signature.of(result["signature"])
    assert signature.classes == ((0, 1) if task == "binary" else ("mäßig", "no", "ye's"))
    assert [out.name for out in signature.outputs] == ["label_", "probabilities"]  # a column is called label
    assert [spec.datatype for spec in signature.inputs] == ["FP64", "INT64", "FP64", "BYTES", "INT64", "BOOL", "INT64"]


@pytest.mark.parametrize("model", REGRESSORS, ids=name)
def test_regressors(model: Any, tmp_path: Path) -> None:
    result = exported(learn(model, mixed("regression", 800), tmp_path))
    (output,) = Signature.of(result["signature"]).outputs
    assert (output.name, output.datatype, output.shape) == ("prediction", "FP32", (-1,))


@pytest.mark.parametrize("model", [LogisticRegression(), SVC(), RandomForestClassifier(5)], ids=name)
def test_classes_that_the_training_part_lacks(model: Any, tmp_path: Path) -> None:
    whole = mixed("three classes")
    goal = whole.columns[-1].model_copy(update={"categories": ("aa", "mäßig", "no", "nonesuch", "ye's")})
    table = ArrayReader([*whole.columns[:-1], goal], whole.read(), "t")
    result = exported(learn(model, table, tmp_path))
    assert Signature.of(result["signature"]).outputs[-1].shape == (-1, 5)


def test_images_flat(tmp_path: Path) -> None:
    exported(learn(LogisticRegression(max_iter=300), pictures(), tmp_path))


def test_missing_numbers_reach_a_model_that_takes_them(tmp_path: Path) -> None:
    desk = learn(HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2), mixed("binary"), tmp_path, scale=False)
    exported(desk)


def test_the_file_serves_rows_it_never_saw(tmp_path: Path) -> None:
    desk = learn(RandomForestClassifier(5, random_state=0), mixed("three classes"), tmp_path)
    result = exported(desk)
    fitted = Fitted.model_validate_json(desk.read(result["files"]["fitted.json"]))
    model = plugins.runtime("onnx").load({"model.onnx": desk.read(result["files"]["model.onnx"])})
    rows = mixed("three classes").read()
    rows['wo"rt'] = np.array(["never seen"] * 60, object)
    given = model.predict(onnx_inputs.feed(fitted.encoding, rows))
    model.close()
    assert set(given["label_"]) <= set(fitted.encoding.classes)
    assert given["label_"].tolist() == [fitted.encoding.classes[i] for i in given["probabilities"].argmax(1)]
    np.testing.assert_allclose(given["probabilities"].sum(1), 1, atol=1e-6)


def test_the_bundle(tmp_path: Path) -> None:
    desk = learn(LogisticRegression(), mixed("binary"), tmp_path)
    result = publish(desk, metrics={"accuracy": 0.75}, aliases=("champion",))
    assert set(result["files"]) == {
        "model.onnx", "model.skops", "code", "encoding.json", "signature.json", "metrics.json", "lineage.json", "card.md",
        "history.json", "fitted.json", "events",
    }  # fmt: skip
    assert result["aliases"] == ["champion"]
    assert result["metrics"] == {"accuracy": 0.75}
    assert result["bytes"] == len(desk.read(result["files"]["model.onnx"]))
    lineage = json.loads(desk.read(result["files"]["lineage.json"]))
    assert lineage == result["lineage"]
    assert lineage["dataset"]["reference"] == "datasets:/table@v1?part=train&train_size=0.8"
    assert lineage["export"]["route"] == "skl2onnx, float32"
    report = json.loads(desk.read(result["files"]["metrics.json"]))
    assert report["training"] == {"loss": 1.0}  # what is no number is left out
    assert json.loads(desk.read(result["files"]["signature.json"])) == result["signature"]
    assert any("largest difference" in line for line in desk.lines)
    assert desk.shown[-1] == (2, 2, "files")


def test_the_card(tmp_path: Path) -> None:
    desk = learn(LogisticRegression(), mixed("binary"), tmp_path)
    result = publish(desk)
    card = desk.read(result["files"]["card.md"]).decode()
    assert card.startswith('---\nmodel_name: "model"\nlibrary_name: sklearn\npipeline_tag: tabular-classification\n')
    assert '| `wo\\"rt` | BYTES | [-1] | category |' in card
    assert "/services/model/predict" in card
    assert "datasets:/table@v1" in card


def test_the_digest_is_that_of_what_was_learnt(tmp_path: Path) -> None:
    desk = learn(LogisticRegression(), mixed("binary"), tmp_path)
    again = learn(LogisticRegression(C=3), mixed("binary"), tmp_path)
    one, two, other = publish(desk), publish(desk, metrics={"accuracy": 1.0}), publish(again)
    assert one["digest"] == two["digest"] != other["digest"]
