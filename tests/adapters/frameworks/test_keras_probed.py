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
from leptonai.core.learning import Adversarial, Learning, Way

pytestmark = [
    pytest.mark.usefixtures("warm", "here"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def hit(found: dict[str, Any]) -> None:
    plain, hardened = found["plain"], found["hardened"]
    assert min(plain["clean"], hardened["clean"]) > 0.85  # of other people's digits
    for one in (plain, hardened):
        assert one["fgsm"] < one["clean"] - 0.1
        assert one["pgd"] <= one["fgsm"] + 0.02
    assert plain["fgsm"] < 0.4
    assert hardened["fgsm"] > plain["fgsm"] + 0.2  # what adversarial training is for
    assert hardened["pgd"] > plain["pgd"] + 0.2
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


def test_only_so_many_rows_are_changed_within_the_range_and_again_alike() -> None:
    learner, x, y = steady("pgd:epsilon=0.3,steps=3,share=0.25", (0.0, 1.0))
    np.random.seed(5)
    first = learner._attacked(x, y, learner._asked.learning.adversarial)
    np.random.seed(5)
    again = learner._attacked(x, y, learner._asked.learning.adversarial)
    assert first.dtype == x.dtype
    assert np.array_equal(first, again)
    assert np.array_equal(first[10:], x[10:])
    assert (np.abs(first[:10] - x[:10]).max(1) > 0.1).all()
    assert np.abs(first - x).max() <= 0.3 + 1e-6
    assert (first.min(), first.max()) >= (0.0, 0.0)
    assert first.max() <= 1.0


def test_an_attack_changes_nothing_of_the_model() -> None:
    learner, x, y = steady("fgsm", None)
    before = learner.state()
    learner._attacked(x, y, learner._asked.learning.adversarial)
    after = learner.state()
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before)


def steady(rule: str, bounds: tuple[float, float] | None) -> tuple[Any, Any, Any]:
    """Return a learner with layers that keep something of each step, and 40 rows between 0 and 1 with their classes."""
    layers = keras_here().layers
    model = keras_here().Sequential(
        [layers.Dense(8, "tanh", activity_regularizer="l2"), layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(2, "softmax")]
    )  # fmt: skip
    framework = plugins.framework("keras")
    learner: Any = framework.load(
        framework.pack(model, {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}).code
    )  # fmt: skip
    x = np.random.default_rng(1).random((40, 5), np.float32)
    y = (x[:, 0] > 0.5).astype(np.int64)
    learner.learn_by(Way(Learning.model_validate({"adversarial": rule}), bounds=bounds))
    learner.begin(x, y, "classification", 2, 0)
    learner.step(x, y)
    return learner, x, y


def test_whole_numbers_are_not_attacked() -> None:
    keras = keras_here()
    framework = plugins.framework("keras")
    model = keras.Sequential([keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(1)])
    learner: Any = framework.load(framework.pack(model, {"optimizer": "adam", "loss": "mse"}).code)
    x, y = np.ones((4, 3), np.int64), np.zeros(4, np.float32)
    learner.begin(x, y, "regression", 0, 0)
    rule = Adversarial.model_validate({"method": "fgsm", "epsilon": 0.1, "steps": 1, "share": 1})
    with pytest.raises(
        Unsupported, match="an attack changes numbers by small parts, and the model begins with an embedding"
    ):
        learner.under_attack(x, y, rule, None, "value")
    learner.learn_by(Way(Learning(adversarial=rule)))
    with pytest.raises(
        Unsupported, match="adversarial changes numbers by small parts, and the model begins with an embedding"
    ):
        learner.begin(x, y, "regression", 0, 0)


def test_what_rounds_has_no_slope() -> None:
    from leptonai.adapters.frameworks.keras_attack import slopes_of

    keras = keras_here()

    def score(x: Any, _: Any) -> Any:
        return keras.ops.sum(keras.ops.cast(x > 0.5, "float32"))

    with pytest.raises(Unsupported, match="has none with respect to what it is given: it rounds, or compares"):
        slopes_of(score, [])(np.ones((2, 3), np.float32), np.zeros(2, np.int64))
