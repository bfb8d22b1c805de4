"""Keras models of several inputs and targets: what a person sees is what PyTorch's give; bit-equal where they go on, on each back end."""

import random
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.back_end import said
from tests.support.several_keras import given, goes_on_alike, handle_in
from tests.support.warm import keras_here
from tests.training.test_several import graph_of, patients
from tests.training.test_work import asked, handle_for, part

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.several import fields
from leptonai.training.export_check import TOLERANCE
from leptonai.training.predictor import from_files
from leptonai.training.spec import Fitted, Predict
from leptonai.training.work import predict, train

pytestmark = [
    pytest.mark.usefixtures("warm", "here"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
TARGETS = ("pressure", "how far")  # TensorFlow makes no name of the second one


def rows() -> dict[str, Any]:
    table = patients()
    table["how far"] = table.pop("progress")
    return table


def two_heads(*names: str) -> Any:
    keras = keras_here()
    random.seed(0)
    x = keras.Input((9,))
    found = keras.layers.Dense(16, "relu")(x)
    outputs = [keras.layers.Dense(2)(found), keras.layers.Dense(1)(found)]
    return keras.Model(x, dict(zip(names, outputs, strict=True)) if names else outputs)


def compiled() -> dict[str, Any]:
    logits = keras_here().losses.SparseCategoricalCrossentropy(from_logits=True)
    return {"optimizer": "adam", "loss": {"pressure": logits, "how far": "huber"}, "metrics": [["accuracy"], ["mae"]]}


def test_several_inputs_and_targets_from_the_rows_to_the_graph(tmp_path: Path) -> None:
    handle = handle_in(tmp_path)
    result = train(given(handle, epochs=12, batch_size=32), handle)
    fitted = Fitted.model_validate(result)
    own = {"loss", "digit_loss", "digit_accuracy", "ink_loss", "ink_mae"}
    assert set(fitted.history) == own | {f"val_{name}" for name in own}
    last = {name: values[-1] for name, values in fitted.history.items()}
    assert last["loss"] == pytest.approx(last["digit_loss"] + last["ink_loss"], rel=1e-4)
    assert last["val_digit_accuracy"] > 0.7
    assert last["val_ink_mae"] < 0.5 * fitted.history["val_ink_mae"][0]
    assert fitted.activations == {"digit": "none", "ink": "value"}
    assert [part.layout for part in fitted.encoding.inputs] == ["channels_last", "table", "table"]
    graph, _, taken = graph_of(handle, result)
    assert taken.route == "PyTorch's tracer"
    model = plugins.runtime("onnx").load({"model.onnx": graph})
    test = part(handle.data("test")._data, slice(0, 4))
    said = model.predict({name: test[name] for name in ("image", "top", "left", "side")})
    model.close()
    assert set(said) == {"digit", "digit_probabilities", "ink"}
    again = from_files(handle.read(fitted.code), handle.read(fitted.weights), result)
    assert np.allclose(again.scores(test)["digit"], said["digit_probabilities"], atol=1e-5)


@pytest.mark.parametrize("names", [(), TARGETS])
def test_two_targets_by_name_and_in_their_order(tmp_path: Path, names: tuple[str, ...]) -> None:
    handle = handle_for(tmp_path, rows(), "how far", 350)
    spec = asked(
        handle, two_heads(*names), compiled(), target=TARGETS, validation="test", epochs=10, loss_weights={"how far": 2.0},
        learning={"learning_rate": 0.01},
    )  # fmt: skip
    result = train(spec, handle)
    fitted = Fitted.model_validate(result)
    last = {name: values[-1] for name, values in fitted.history.items()}
    assert last["loss"] == pytest.approx(last["pressure_loss"] + 2 * last["how far_loss"], rel=1e-4)
    assert last["val_how far_mae"] < fitted.history["val_how far_mae"][0]
    assert "val_pressure_accuracy" in last
    assert fitted.activations == {"pressure": "softmax", "how far": "value"}
    found = predict(Predict(run=handle.ended(result).id, data="test"), handle)
    said = fields(np.load(BytesIO(handle.read(found["predictions"])), allow_pickle=False))
    assert (said["pressure"].shape, said["how far"].shape) == ((92, 2), (92, 1))
    assert np.allclose(said["pressure"].sum(1), 1, atol=1e-5)
    mine = two_heads(*names)
    before = mine.weights[0].numpy()
    plugins.framework("keras").absorb(mine, handle.read(fitted.weights))
    assert not np.array_equal(mine.weights[0].numpy(), before)


def test_a_class_of_the_users_own_gets_a_dict(tmp_path: Path) -> None:
    keras = keras_here()

    class Both(keras.Model):  # type: ignore[misc]
        def __init__(self, units: int = 4) -> None:
            super().__init__()
            self.units = units
            self.first, self.second = keras.layers.Dense(units), keras.layers.Dense(units)
            self.last = keras.layers.Dense(1)

        def call(self, x: Any) -> Any:
            return self.last(keras.ops.relu(self.first(x["bmi"]) + self.second(x["rest"])))

    table = rows()
    del table["pressure"]
    handle = handle_for(tmp_path, table, "how far", 350)
    rest = tuple(name for name in table if name not in ("bmi", "how far"))
    spec = asked(
        handle, Both(), {"loss": "mse", "metrics": ["mae"]}, inputs={"bmi": ("bmi",), "rest": rest}, epochs=5
    )  # fmt: skip
    fitted = Fitted.model_validate(result := train(spec, handle))
    assert set(fitted.history) == {"loss", "mae"}
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]
    assert graph_of(handle, result)[2].measured.difference < 1e-4
    mine = Both()
    plugins.framework("keras").absorb(mine, handle.read(fitted.weights))
    assert mine.built


def test_one_that_dies_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    assert goes_on_alike(tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(660)
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_on_another_back_end(backend: str, tmp_path: Path) -> None:
    (found,) = said(backend, "several_keras", str(tmp_path))
    assert found["accuracy"] > 0.6
    assert found["difference"] <= TOLERANCE
    assert found["alike"]
    assert found["route"] in ("tf2onnx", "rebuilt on Keras with torch", "rebuilt on Keras with tensorflow")


def wrong(tmp_path: Path, model: Any, told: dict[str, Any] | None = None, **spec: Any) -> str:
    handle = handle_for(tmp_path, rows(), "how far", 350)
    with pytest.raises(Invalid) as error:
        train(asked(handle, model, told or compiled(), **{"target": TARGETS, **spec}), handle)
    return str(error.value)


def test_what_does_not_fit_is_told_by_name(tmp_path: Path) -> None:
    keras = keras_here()
    said = wrong(tmp_path / "other", two_heads("pressure", "other"))
    assert "gives outputs other, pressure for the targets pressure, how far: no output is called 'how far'" in said
    one = keras.Sequential([keras.Input((9,)), keras.layers.Dense(2)])
    assert "for 2 targets: return a dict by target, or a tuple in their order" in wrong(tmp_path / "one", one)
    said = wrong(tmp_path / "alone", two_heads("a", "b"), {"loss": "mse"}, target="how far", features=("age",))
    assert "takes 9 features, and the data gives 1" in said
    said = wrong(tmp_path / "few", two_heads("a", "b"), {"loss": "mse"}, target="how far", features=tuple(rows())[:9])
    assert "the model gives 2 outputs, a, b, and there is one target" in said
    said = wrong(tmp_path / "lacking", two_heads(*TARGETS), {"loss": {"pressure": "mse"}})
    assert "loss: nothing is said of the target 'how far'" in said
    said = wrong(tmp_path / "strange", two_heads(*TARGETS), {"loss": {"other": "mse"}})
    assert "loss: 'other' is none of the targets pressure, how far" in said
    said = wrong(tmp_path / "metrics", two_heads(*TARGETS), {**compiled(), "metrics": ["mae"]})
    assert "metrics: 1 are given for 2 targets: give a dict by target" in said
    said = wrong(tmp_path / "kind", two_heads(*TARGETS), {"loss": "sparse_categorical_crossentropy"})
    assert "target 'how far': the loss is for classes" in said
    x, y = keras.Input((3,), name="x"), keras.Input((6,), name="y")
    both = keras.Model([x, y], keras.layers.Dense(1)(keras.layers.Concatenate()([x, y])))
    columns = tuple(name for name in rows() if name not in TARGETS)
    inputs = {"x": columns[:2], "y": columns[2:8]}
    said = wrong(tmp_path / "shape", both, {"loss": "mse"}, target="how far", inputs=inputs)
    assert "the model's input 'x' takes 3 features, and the data gives 2" in said
