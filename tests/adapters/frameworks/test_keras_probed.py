"""Gradients of Keras models, on each back end: attacks that stay within their distance and hit, maps that add up."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.back_end import said
from tests.support.keras_probed import attacks, looks
from tests.support.warm import keras_here

from leptonai.core import plugins
from leptonai.core.errors import Unsupported
from leptonai.core.learning import Adversarial

pytestmark = [
    pytest.mark.usefixtures("warm", "here"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def hit(found: dict[str, Any]) -> None:
    assert found["clean"] > 0.85
    assert found["fgsm"] < found["clean"] - 0.1
    assert found["pgd"] <= found["fgsm"] + 0.02
    assert 0.09 < found["furthest"] < 0.1001
    assert found["least"] >= 0.95 - 1e-6


def seen(found: dict[str, Any]) -> None:
    assert found["right"] > 0.9
    assert found["apart"] < 0.02  # what all places add is what the class gained: completeness
    assert found["shape"] == [40, 12, 12]
    assert found["seen"] > 0.9


def test_attacks_on_pytorch(tmp_path: Path) -> None:
    hit(attacks(tmp_path))


def test_maps_on_pytorch(tmp_path: Path) -> None:
    seen(looks(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(660)
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_on_another_back_end(backend: str, tmp_path: Path) -> None:
    (found,) = said(backend, "keras_probed", str(tmp_path))
    hit(found["attacks"])
    seen(found["looks"])


@pytest.mark.parametrize(
    ("outputs", "last", "loss", "classes"),
    [
        (1, "sigmoid", "binary_crossentropy", 2),
        (3, "softmax", "sparse_categorical_crossentropy", 3),
        (1, None, "mse", 0),
    ],
)
def test_each_kind_of_output_loses(outputs: int, last: str | None, loss: str, classes: int) -> None:
    keras = keras_here()
    framework = plugins.framework("keras")
    model = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(outputs, last)])
    learner: Any = framework.load(framework.pack(model, {"optimizer": "adam", "loss": loss}).code)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = np.digitize(x[:, 0], [0.0] if classes == 2 else [-0.4, 0.4]) if classes else x[:, 0]
    learner.begin(x, y, "classification" if classes else "regression", classes, 0)
    for _ in range(30):
        learner.step(x, y)

    def error(rows: Any) -> float:
        learner.metrics()
        learner.measure(rows, y)
        return float(learner.metrics()["loss"])

    rule = Adversarial.model_validate({"method": "fgsm", "epsilon": 0.1, "steps": 1, "share": 1})
    assert error(learner.under_attack(x, y, rule, None, learner.activation)) > error(x) + 0.01


def test_whole_numbers_are_not_attacked() -> None:
    keras = keras_here()
    framework = plugins.framework("keras")
    model = keras.Sequential([keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(1)])
    learner: Any = framework.load(framework.pack(model, {"optimizer": "adam", "loss": "mse"}).code)
    x, y = np.ones((4, 3), np.int64), np.zeros(4, np.float32)
    learner.begin(x, y, "regression", 0, 0)
    rule = Adversarial.model_validate({"method": "fgsm", "epsilon": 0.1, "steps": 1, "share": 1})
    with pytest.raises(Unsupported, match="begins with an embedding, which takes whole numbers"):
        learner.under_attack(x, y, rule, None, "value")
