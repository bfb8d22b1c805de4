"""LightGBM learns round by round: metrics and early stopping by rounds, the same trees after a kill, and one graph."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from tests.support.handle import FileHandle
from tests.training.test_work import Dies, asked, cancer, handle_for

from leptonai.adapters.frameworks import lightgbm_rounds
from leptonai.core import plugins
from leptonai.core.errors import Invalid, Unsupported
from leptonai.training import export_check, onnx_graph
from leptonai.training.encoder import Options, fit
from leptonai.training.spec import EarlyStopping
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


def classifier(**more: Any) -> Any:
    return lightgbm.LGBMClassifier(**{"n_estimators": 40, "num_leaves": 7, "n_jobs": 1, **more})


def test_rounds_are_measured_and_stopped_early(tmp_path: Path) -> None:
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    rule = EarlyStopping(patience=10)
    spec = asked(
        handle,
        classifier(n_estimators=400),
        {"metrics": ["accuracy"]},
        validation="test",
        early_stopping=rule,
        scale=False,
    )
    result = train(spec, handle)
    history = result["history"]
    rounds = len(history["val_loss"])
    assert 20 < rounds < 400
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["loss"] == sorted(history["loss"], reverse=True)
    best = int(np.argmin(history["val_loss"])) + 1
    assert rounds == best + 10
    text, facts = lightgbm_rounds.parse(handle.read(result["weights"]))
    assert lightgbm.Booster(model_str=text).num_trees() == best
    assert facts["classes"] == 2
    model = classifier()
    plugins.framework("lightgbm").absorb(model, handle.read(result["weights"]))
    x = np.stack([handle.datasets["test"].read()[name] for name in cancer() if name != "diagnosis"], axis=1)
    truth = handle.datasets["test"].read()["diagnosis"]
    said = np.array(result["encoding"]["classes"])[model.predict(x.astype(np.float32))]
    assert (said == truth).mean() == pytest.approx(history["val_accuracy"][best - 1])


@pytest.mark.parametrize(
    "more", [{}, {"colsample_bytree": 0.5, "extra_trees": True}, {"subsample": 0.7, "subsample_freq": 1}]
)
def test_a_training_that_dies_goes_on_to_the_same_trees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    monkeypatch.setattr("leptonai.training.loop._PROGRESS_SECONDS", 0)
    whole = handle_for(tmp_path, cancer(), "diagnosis", 400)
    spec = asked(whole, classifier(**more), validation="test", checkpoint_seconds=1e-9)
    wanted = train(spec, whole)
    dies = Dies(tmp_path / "job2", datasets=whole.datasets, after=31)
    dies.blobs, dies.raw = whole.blobs, whole.raw
    with pytest.raises(ConnectionAbortedError):
        train(spec, dies)
    again = FileHandle(tmp_path / "job2", datasets=whole.datasets)
    again.blobs, again.raw = whole.blobs, whole.raw
    found = train(spec, again)
    assert any("goes on from epoch" in line for line in again.lines)
    assert whole.read(found["weights"]) == whole.read(wanted["weights"])
    assert found["history"] == wanted["history"]


def table(kind: str) -> tuple[dict[str, Any], str]:
    if kind == "values":
        x, y = load_diabetes(return_X_y=True)
        return {f"c{i}": x[:, i] for i in range(x.shape[1])} | {"y": y}, "y"
    if kind == "several":
        x, y = load_iris(return_X_y=True)
        names = np.array(["a", "b", "c"], dtype=object)
        return {f"c{i}": x[:, i] for i in range(4)} | {"y": names[y]}, "y"
    return cancer(), "diagnosis"


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("two", classifier()),
        ("several", classifier(subsample=0.8, subsample_freq=2)),
        ("values", lightgbm.LGBMRegressor(n_estimators=20, n_jobs=1)),
        ("values", lightgbm.LGBMRegressor(n_estimators=20, objective="poisson", n_jobs=1)),
        ("values", lightgbm.LGBMRegressor(n_estimators=12, boosting_type="dart", n_jobs=1)),
    ],
)
def test_the_graph_gives_what_the_trees_give(tmp_path: Path, kind: str, model: Any) -> None:
    data, target = table(kind)
    handle = handle_for(tmp_path, data, target, len(data[target]) - 20)
    result = train(asked(handle, model, scale=False), handle)
    framework = plugins.framework("lightgbm")
    learner = framework.load(handle.read(result["code"]), handle.read(result["weights"]))
    reader = handle.datasets["train"]
    encoding = fit(
        reader,
        None,
        target,
        Options(images="flat", scale=False, values=frozenset({target} if kind == "values" else ())),
    )
    sample = export_check.draw(reader, encoding, learner)
    (route,) = framework.export(learner, sample.x[:8])
    graph = onnx_graph.publishable(route.build(), encoding, result["activation"], sample.shape)
    assert export_check.measure(graph, sample, encoding, result["activation"], learner).difference < 1e-3


def test_what_cannot_be_published_is_refused_at_once() -> None:
    framework = plugins.framework_of(classifier())
    assert framework.name == "lightgbm"
    for model, word in (
        (classifier(objective="multiclassova"), "objective: 'multiclassova'"),
        (classifier(boosting_type="rf"), "boosting_type: 'rf'"),
        (lightgbm.LGBMRegressor(linear_tree=True), "linear_tree"),
        (lightgbm.LGBMRegressor(objective=lambda a, b: (a, b)), "objective"),
    ):
        with pytest.raises(Unsupported, match=word):
            framework.pack(model, {})


def test_a_target_that_does_not_suit_is_told(tmp_path: Path) -> None:
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    with pytest.raises(Invalid, match="LGBMRegressor does not suit a target of 2 classes: use LGBMClassifier"):
        train(asked(handle, lightgbm.LGBMRegressor()), handle)
