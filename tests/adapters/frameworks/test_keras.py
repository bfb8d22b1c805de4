"""Keras models of every kind, compiled here or by Keras, with parts of the user's own."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.warm import keras_here, libraries

from leptonai.core import plugins, settings
from leptonai.core.errors import Invalid, Unavailable

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FRAMEWORK = plugins.framework("keras")


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    libraries()


@pytest.fixture
def keras() -> Any:
    return keras_here()


def rows(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 4)).astype(np.float32), np.arange(30) % classes


def begun(model: Any, compiled: dict[str, Any], y: Any = None, classes: int = 3) -> Any:
    learner = FRAMEWORK.load(FRAMEWORK.pack(model, compiled).code)
    x, known = rows(classes)
    y = known if y is None else y
    learner.begin(
        x, y, "regression" if y.dtype.kind == "f" else "classification", classes if y.dtype.kind != "f" else 0, 0
    )
    return learner


def learns(learner: Any, y: Any = None, classes: int = 3) -> dict[str, float]:
    x, known = rows(classes)
    y = known if y is None else y
    learner.step(x, y)
    before = learner.metrics()["loss"]
    for _ in range(30):
        learner.step(x, y)
    found = learner.metrics()
    assert found["loss"] < before
    return found


def test_what_keras_was_told_is_kept_and_ours_comes_first(keras: Any) -> None:
    layers = keras.layers
    schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)
    model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(3, "softmax")])
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="best two")],
    )
    learner = begun(model, {})
    assert set(learns(learner)) == {"loss", "accuracy", "best two"}
    assert type(learner.model.optimizer._learning_rate).__name__ == "ExponentialDecay"
    learner = begun(model, {"optimizer": "sgd", "metrics": ["acc"]})
    assert set(learns(learner)) == {"loss", "acc"}
    assert type(learner.model.optimizer).__name__ == "SGD"
    with pytest.raises(Invalid, match="call compile"):
        FRAMEWORK.pack(keras.Sequential([layers.Dense(3)]), {})


@pytest.mark.parametrize(
    ("loss", "last", "outputs", "classes", "activation"),
    [
        ("sparse_categorical_crossentropy", "softmax", 3, 3, "none"),
        ("categorical_crossentropy", "softmax", 3, 3, "none"),
        ("kl_divergence", "softmax", 3, 3, "none"),
        ("mse", "sigmoid", 3, 3, "none"),
        ("crossentropy", "softmax", 3, 3, "none"),
        ("binary_crossentropy", "sigmoid", 1, 2, "none"),
        ("categorical_crossentropy", "softmax", 2, 2, "none"),
        ("logits sparse", None, 3, 3, "softmax"),
        ("logits categorical", None, 3, 3, "softmax"),
        ("logits binary", None, 1, 2, "sigmoid"),
    ],
)  # fmt: skip
def test_losses_of_classes(keras: Any, loss: str, last: Any, outputs: int, classes: int, activation: str) -> None:
    made: Any = {
        "logits sparse": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "logits categorical": lambda: keras.losses.CategoricalCrossentropy(from_logits=True),
        "logits binary": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    }.get(loss, lambda: loss)()
    model = keras.Sequential([keras.layers.Dense(outputs, activation=last)])
    compiled = {"optimizer": keras.optimizers.Adam(0.05), "loss": made, "metrics": ["accuracy"]}
    learner = begun(model, compiled, classes=classes)
    learns(learner, classes=classes)
    assert learner.activation == activation
    x, y = rows(classes)
    learner.measure(x, y)
    raw = learner.predict(x)
    predicted = raw.argmax(1) if outputs > 1 else (raw[:, 0] > 0.5).astype(int)  # Keras, too, on logits
    assert learner.metrics()["accuracy"] == pytest.approx((predicted == y).mean(), abs=1e-6)


def test_functional_and_built_models_keep_their_weights(keras: Any) -> None:
    given = keras.Input((4,))
    hidden = keras.layers.Dense(8, activation="relu")(given)
    model = keras.Model(given, keras.layers.Dense(1)(keras.layers.Concatenate()([given, hidden])))
    x, _ = rows()
    wanted = np.asarray(model.predict(x, verbose=0))
    values = np.linspace(0, 1, 30, dtype=np.float32)
    learner = begun(model, {"optimizer": "adam", "loss": "mse"}, values)
    assert np.allclose(learner.predict(x), wanted, atol=1e-6)
    learns(learner, values)
    FRAMEWORK.absorb(model, learner.weights())
    assert np.allclose(model.predict(x, verbose=0), learner.predict(x), atol=1e-6)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(Invalid, match=r"do not fit this model|takes 3 features"):
        FRAMEWORK.absorb(other, learner.weights())


def test_a_subclassed_model_with_layers_losses_and_metrics_of_the_users_own(keras: Any) -> None:
    class Twice(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 2

    class Net(keras.Model):
        def __init__(self, width: int = 8, **kwargs: Any):
            super().__init__(**kwargs)
            self.width = width
            self.first, self.twice, self.last = keras.layers.Dense(width), Twice(), keras.layers.Dense(1)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return self.last(self.twice(self.first(inputs)))

    def far(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    class Largest(keras.metrics.Metric):
        def __init__(self, name: str = "largest", **kwargs: Any):
            super().__init__(name=name, **kwargs)
            self.value = self.add_weight(name="value", initializer="zeros")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.value.assign(keras.ops.maximum(self.value, keras.ops.max(y_pred)))

        def result(self) -> Any:
            return self.value

    values = np.linspace(0, 1, 30, dtype=np.float32)
    mine = Net(6)
    learner = begun(mine, {"optimizer": keras.optimizers.Adam(0.01), "loss": far, "metrics": [Largest(), far]}, values)
    assert learner.model.width == 6
    assert set(learns(learner, values)) == {"loss", "largest", "far"}
    x, _ = rows()
    FRAMEWORK.absorb(mine, learner.weights())
    assert np.allclose(mine.predict(x, verbose=0), learner.predict(x), atol=1e-5)
    again = FRAMEWORK.load(FRAMEWORK.pack(mine, {"optimizer": "adam", "loss": far}).code, learner.weights())
    assert np.array_equal(again.predict(x), learner.predict(x))


def test_a_model_written_in_the_plainest_way(keras: Any) -> None:
    class Row(keras.layers.Layer):
        def __init__(self, units: int):
            super().__init__()
            self.dense = keras.layers.Dense(units)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    class Plain(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.row, self.last = Row(5), keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return self.last(self.row(inputs))

    class Forgets(keras.Model):
        def __init__(self, units: int = 3):
            super().__init__()
            self.last = keras.layers.Dense(units)

        def call(self, inputs: Any) -> Any:
            return self.last(inputs)

    compiled = {"optimizer": "adam", "loss": "mse"}
    values = np.linspace(0, 1, 30, dtype=np.float32)
    learner = begun(Plain(), compiled, values)
    learns(learner, values)
    assert learner.model.row.dense.units == 5
    learner = begun(keras.Sequential([Plain(), keras.layers.Dense(1)]), compiled, values)
    learns(learner, values)
    with pytest.raises(Invalid, match=r"Forgets cannot be written down.*get_config.*Dense would be another one"):
        FRAMEWORK.pack(Forgets(4), compiled)
    assert getattr(Plain.get_config, "_is_default", False)


def test_models_that_cannot_be_used(keras: Any) -> None:
    layers = keras.layers

    class Closed(keras.Model):
        def __init__(self, layer: Any):
            super().__init__()
            self.layer = layer

        def call(self, inputs: Any) -> Any:
            return self.layer(inputs)

    compiled = {"optimizer": "adam", "loss": "mse"}
    with pytest.raises(Invalid, match=r"Closed cannot be written down.*get_config"):
        FRAMEWORK.pack(Closed(layers.Dense(1)), compiled)
    one, two = keras.Input((4,)), keras.Input((4,))
    both = keras.Model([one, two], layers.Dense(1)(layers.Add()([one, two])))
    values = np.zeros(30, np.float32)
    with pytest.raises(Invalid, match=r"the model takes 2 inputs, .*: say which columns are in each"):
        begun(both, compiled, values)
    with pytest.raises(Invalid, match="takes 5 features, and the data gives 4"):
        begun(keras.Sequential([keras.Input((5,)), layers.Dense(1)]), compiled, values)
    with pytest.raises(Invalid, match=r"cannot take rows of shape \(4,\)"):
        begun(keras.Sequential([layers.Conv2D(2, 3), layers.Dense(1)]), compiled, values)
    with pytest.raises(Invalid, match=r"3 classes, and the model gives outputs of shape \(5,\)"):
        begun(
            keras.Sequential([layers.Dense(5, "softmax")]), {"optimizer": "adam", "loss": "sparse_categorical_crossentropy"}
        )  # fmt: skip
    with pytest.raises(Invalid, match=r"[Ll]oss"):
        begun(keras.Sequential([layers.Dense(1)]), {"optimizer": "adam"}, values)


@pytest.mark.parametrize(
    ("compiled", "says"),
    [
        ({"optimizer": "adamm", "loss": "mse"}, "no optimizer 'adamm': did you mean 'adam"),
        ({"optimizer": "adam", "loss": "mze"}, "no loss 'mze': did you mean 'mse'"),
        ({"optimizer": "adam", "loss": "mse", "metrics": ["acuracy"]}, "no metric 'acuracy': did you mean 'accuracy'"),
        ({"optimizer": "adam", "loss": "mse", "jit": True}, "'jit' is not known"),
    ],
)
def test_unknown_names(keras: Any, compiled: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        FRAMEWORK.pack(keras.Sequential([keras.layers.Dense(1)]), compiled)


def test_a_model_of_another_back_end_says_so(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = FRAMEWORK.pack(keras.Sequential([keras.layers.Dense(1)]), {"optimizer": "adam", "loss": "mse"})
    assert packed.flavour == keras.config.backend()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(Unavailable, match="KERAS_BACKEND="):
        FRAMEWORK.load(packed.code)


def test_an_embedding_is_found_wherever_the_model_begins(keras: Any) -> None:
    layers = keras.layers
    compiled = {"optimizer": "adam", "loss": "mse"}
    given = keras.Input((3,), dtype="int64")
    functional = keras.Model(given, layers.Dense(1)(layers.Flatten()(layers.Embedding(9, 2)(given))))
    for model in (keras.Sequential([layers.Embedding(9, 2), layers.Flatten(), layers.Dense(1)]), functional):
        learner = FRAMEWORK.load(FRAMEWORK.pack(model, compiled).code)
        assert (learner.input_dtype, learner.entries) == ("int64", 9)
    plain = FRAMEWORK.load(FRAMEWORK.pack(keras.Sequential([layers.Dense(1), layers.Dense(1)]), compiled).code)
    assert (plain.input_dtype, plain.entries) == ("float32", None)


def test_tensorflow_is_not_imported_for_a_model_of_another_back_end() -> None:
    code = (
        "import sys, keras\nfrom leptonai.core import plugins\nimport numpy as np\n"
        "model = keras.Sequential([keras.layers.Dense(1)])\nframework = plugins.framework_of(model)\n"
        "learner = framework.load(framework.pack(model, {'optimizer': 'adam', 'loss': 'mse'}).code)\n"
        "x = np.zeros((4, 2), 'float32')\nlearner.begin(x, x[:, 0], 'regression', 0, 0)\nlearner.step(x, x[:, 0])\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=settings.environment(KERAS_BACKEND="torch"), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.stdout.strip() == "False", done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
@pytest.mark.skipif(settings.variable("KERAS_BACKEND") == "tensorflow", reason="this is that process")
def test_the_same_on_tensorflow() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__],
        cwd=Path(__file__).parents[3],
        env=settings.environment(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1"),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
