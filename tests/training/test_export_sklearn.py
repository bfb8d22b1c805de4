"""scikit-learn models go through training, export and ONNX Runtime, and give what scikit-learn gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from tests.support.export import learn, mixed, pictures, publish
from tests.support.handle import ArrayReader, FileHandle

from leptonai.adapters.frameworks.sklearn_learner import SklearnLearner
from leptonai.core import plugins
from leptonai.core.errors import Unsupported
from leptonai.core.signature import Signature
from leptonai.training import onnx_inputs
from leptonai.training.encoder import encode
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


SPLIT = {"max_iter": 20, "min_samples_leaf": 2, "categorical_features": [3, 4]}  # a column of words, and one of codes


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (HistGradientBoostingRegressor(**SPLIT), "regression"),
        (HistGradientBoostingClassifier(**SPLIT), "binary"),
        (HistGradientBoostingClassifier(**SPLIT), "three classes"),
        (VotingRegressor([("a", HistGradientBoostingRegressor(**SPLIT)), ("b", Ridge())], weights=[0.7, 0.3]), "regression"),
        (VotingClassifier([("a", HistGradientBoostingClassifier(**SPLIT)), ("b", LogisticRegression())], voting="soft",
                          weights=[0.7, 0.3]), "three classes"),
        (LGBMRegressor(categorical_feature=[3, 4], n_estimators=20, min_child_samples=5, min_data_per_group=5), "regression"),
        (LGBMClassifier(categorical_feature=[3, 4], n_estimators=20, min_child_samples=5, min_data_per_group=5), "three classes"),
    ],
    ids=lambda given: given if isinstance(given, str) else name(given),
)  # fmt: skip
def test_trees_that_split_by_categories(model: Any, task: str, tmp_path: Path) -> None:
    table = mixed(task, 400)
    desk = learn(model, table, tmp_path, scale=isinstance(model, (VotingClassifier, VotingRegressor)))
    result = exported(desk)
    fitted = Fitted.model_validate_json(desk.read(result["files"]["fitted.json"]))
    graph = plugins.runtime("onnx").load({"model.onnx": desk.read(result["files"]["model.onnx"])})
    rows = table.read() | {'wo"rt': np.array(["never seen", "größe"] * 200, object), "code": np.arange(400) % 60}
    given = graph.predict(onnx_inputs.feed(fitted.encoding, rows))
    weights = desk.read(
        next(blob for file, blob in result["files"].items() if "model.skops" in file or "weights" in file)
    )
    learner = plugins.framework(fitted.framework).load(desk.read(fitted.code), weights)
    wanted = learner.predict(encode(fitted.encoding, rows))
    if fitted.activation == "softmax":
        wanted = np.exp(wanted) / np.exp(wanted).sum(axis=1, keepdims=True)
    found = given["prediction"] if task == "regression" else given["probabilities"]
    np.testing.assert_allclose(found, wanted.reshape(found.shape), atol=1e-4)


def test_categories_that_are_no_whole_numbers_are_not_published() -> None:
    x = np.repeat(np.arange(6) + 0.5, 50)[:, None].astype(np.float32)
    model = HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]).fit(x, np.repeat([0.0, 1.0] * 3, 50))
    framework = plugins.framework("sklearn")
    route = next(iter(framework.export(SklearnLearner(model, [], []), x[:8])))
    with pytest.raises(Unsupported, match="no whole numbers"):
        route.build()


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
