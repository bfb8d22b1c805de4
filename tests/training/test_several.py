"""Models of several targets, and of several inputs: from the rows to what is published, bit-equal where they go on."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.handle import reader_of
from tests.training.test_work import Dies, asked, handle_for, part

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.core.several import fields, packed
from leptonai.training import export_check, export_routes
from leptonai.training.predictor import from_files, loaded
from leptonai.training.several import how
from leptonai.training.spec import Fitted, Predict
from leptonai.training.trainee import suited
from leptonai.training.work import predict, train

pytestmark = pytest.mark.usefixtures("warm", "here")


def patients() -> dict[str, Any]:
    """Real rows of diabetes: how far it went on, a number, and, from another column, whether the pressure is high."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    table: dict[str, Any] = {name: found.data[:, i] for i, name in enumerate(found.feature_names)}
    pressure = table.pop("bp")
    table["pressure"] = np.array(["high" if value > 100 else "low" for value in pressure], dtype=object)
    table["progress"] = found.target / 100
    return table


def digits() -> dict[str, Any]:
    """Real digits as images, with two facts about each in columns; which digit it is, and how much ink it took."""
    from sklearn.datasets import load_digits

    found = load_digits()
    ink = found.images.sum((1, 2))
    return {
        "image": (found.images[:600, ..., None] * 15).astype(np.uint8),
        "top": found.images[:600, :4].sum((1, 2)),
        "left": found.images[:600, :, :4].sum((1, 2)),
        "side": np.array(
            ["even" if row[:4].sum() > row[4:].sum() else "odd" for row in found.images[:600, 0]], dtype=object
        ),
        "digit": found.target[:600].astype(np.int64),
        "ink": ink[:600] / 100,
    }


def two_heads(how_given: str = "dict") -> Any:
    import torch
    from torch import nn

    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Dropout(0.1))
            self.pressure, self.progress = nn.Linear(16, 2), nn.Linear(16, 1)

        def forward(self, x: Any) -> Any:
            found = self.body(x)
            said = {"pressure": self.pressure(found), "progress": self.progress(found)}
            return said if how_given == "dict" else tuple(said.values())

    torch.manual_seed(0)
    return TwoHeads()


def sees_and_reads() -> Any:
    import torch
    from torch import nn

    class SeesAndReads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eye = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
            self.names = nn.Embedding(3, 4)
            self.digit, self.ink = nn.Linear(8 * 9 + 4 + 2, 10), nn.Linear(8 * 9 + 4 + 2, 1)

        def forward(self, image: Any, side: Any, table: Any) -> Any:
            found = torch.cat([self.eye(image), self.names(side)[:, 0], table], 1)
            return self.digit(found), self.ink(found)[:, 0]

    torch.manual_seed(0)
    return SeesAndReads()


TARGETS = ("pressure", "progress")
INPUTS = {"image": ("image",), "side": ("side",), "table": ("top", "left")}


def test_arrays_side_by_side_are_cut_like_one() -> None:
    both = packed({"a": np.arange(6).reshape(3, 2), "é b": np.array([1.5, 2.5, 3.5], np.float32)})
    assert (len(both), both.dtype.names) == (3, ("a", "é b"))
    again = fields(both[[2, 0]])
    assert again["a"].tolist() == [[4, 5], [0, 1]]
    assert again["é b"].dtype == np.float32
    assert again["a"].flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_two_targets_in_pytorch(tmp_path: Path, kind: str) -> None:
    table = patients()
    handle = handle_for(tmp_path, table, "progress", 350)
    compiled = {"optimizer": "adam", "loss": {"progress": "huber"}, "metrics": ["accuracy", "mae"]}
    spec = asked(
        handle, two_heads(kind), compiled, target=TARGETS, validation="test", epochs=12, loss_weights={"progress": 2.0}
    )  # fmt: skip
    result = train(spec, handle)
    fitted = Fitted.model_validate(result)
    own = {"loss", "pressure_loss", "pressure_accuracy", "progress_loss", "progress_mae"}
    assert set(fitted.history) == own | {f"val_{name}" for name in own}
    last = {name: values[-1] for name, values in fitted.history.items()}
    assert last["loss"] == pytest.approx(last["pressure_loss"] + 2 * last["progress_loss"], rel=1e-5)
    assert last["val_pressure_accuracy"] > 0.7
    assert last["val_progress_mae"] < 0.6 * fitted.history["val_progress_mae"][0]
    assert (fitted.encoding.task, fitted.encoding.targets) == ("several", TARGETS)
    assert fitted.encoding.features[0].column == "age"
    assert fitted.activations == {"pressure": "softmax", "progress": "value"}
    found = predict(Predict(run=handle.ended(result).id, data="test"), handle)
    array = np.load(BytesIO(handle.read(found["predictions"])), allow_pickle=False)
    said = fields(array)
    assert [target["column"] for target in found["targets"]] == list(TARGETS)
    assert (said["pressure"].shape, said["progress"].shape) == ((92, 2), (92, 1))
    assert np.allclose(said["pressure"].sum(1), 1, atol=1e-5)
    again = from_files(handle.read(fitted.code), handle.read(fitted.weights), result)
    assert np.array_equal(again.scores(handle.data("test").read()), array)


def graph_of(handle: Any, result: dict[str, Any]) -> tuple[bytes, Any, Any]:
    fitted = Fitted.model_validate(result)
    framework = plugins.framework(fitted.framework)
    learner = suited(loaded(framework, handle.read(fitted.code), handle.read(fitted.weights)), how(fitted.encoding))
    sample = export_check.draw(handle.data("train"), fitted.encoding, learner)
    taken = export_routes.take(framework, learner, fitted, sample, 1000, handle)
    assert taken.graph is not None, taken.refused
    return taken.graph, fitted, taken


def test_two_targets_as_one_graph(tmp_path: Path) -> None:
    handle = handle_for(tmp_path, patients(), "progress", 350)
    result = train(asked(handle, two_heads(), target=TARGETS, epochs=2), handle)
    graph, fitted, taken = graph_of(handle, result)
    assert taken.route == "PyTorch's tracer"
    model = plugins.runtime("onnx").load({"model.onnx": graph})
    rows = {name: values[:5] for name, values in handle.data("test").read().items()}
    given = model.predict({f.column: rows[f.column] for f in fitted.encoding.features})
    model.close()
    assert list(given) == ["pressure", "pressure_probabilities", "progress"]
    assert set(given["pressure"]) <= {"high", "low"}
    assert (given["pressure_probabilities"].shape, given["progress"].shape) == ((5, 2), (5,))


def test_several_inputs_and_targets_in_pytorch(tmp_path: Path) -> None:
    handle = handle_for(tmp_path, digits(), "digit", 500)
    compiled = {"metrics": {"digit": ["accuracy"], "ink": ["mae"]}}
    spec = asked(
        handle,
        sees_and_reads(),
        compiled,
        target=("digit", "ink"),
        inputs=INPUTS,
        validation="test",
        epochs=12,
        learning={"learning_rate": 0.01},
    )
    handle.datasets = {
        name: reader_of(reader._data, "digit", digit="category") for name, reader in handle.datasets.items()
    }
    result = train(spec, handle)
    fitted = Fitted.model_validate(result)
    assert fitted.history["val_digit_accuracy"][-1] > 0.8
    assert fitted.history["val_ink_mae"][-1] < 0.5 * fitted.history["val_ink_mae"][0]
    assert [part.layout for part in fitted.encoding.inputs] == ["channels_first", "table", "table"]
    graph, _, taken = graph_of(handle, result)
    assert taken.route == "PyTorch's tracer"
    model = plugins.runtime("onnx").load({"model.onnx": graph})
    rows = part(handle.data("test")._data, slice(0, 4))
    given = model.predict({name: rows[name] for name in ("image", "top", "left", "side")})
    model.close()
    assert set(given) == {"digit", "digit_probabilities", "ink"}


def test_one_target_of_several_inputs(tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(1, 4), nn.Linear(8, 4)

        def forward(self, bmi: Any, rest: Any) -> Any:
            return torch.relu(self.first(bmi)) @ torch.ones(4, 1) + self.second(rest).sum(1, keepdim=True)

    table = patients()
    del table["pressure"]
    handle = handle_for(tmp_path, table, "progress", 350)
    rest = tuple(name for name in table if name not in ("bmi", "progress"))
    spec = asked(handle, Both(), {"metrics": ["mae"]}, inputs={"bmi": ("bmi",), "rest": rest}, epochs=8)
    fitted = Fitted.model_validate(result := train(spec, handle))
    assert set(fitted.history) == {"loss", "mae"}
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]
    assert graph_of(handle, result)[2].measured.difference < 1e-4


@pytest.mark.parametrize("after", [5, 9])
def test_one_that_dies_after_any_batch_ends_with_the_same_bits(tmp_path: Path, after: int) -> None:
    def given(handle: Any) -> Any:
        compiled = {"optimizer": "adam", "metrics": ["accuracy", "mae"]}
        return asked(
            handle, sees_and_reads(), compiled, target=("digit", "ink"), inputs=INPUTS, epochs=3, batch_size=125,
            validation="test", checkpoint_seconds=1e-9,
            learning={"schedule": "cosine:warmup=1", "clip_norm": 1.0, "accumulate": 2, "ema": 0.9, "weight_decay": 0.01},
        )  # fmt: skip

    table = digits()
    parts = {"train": part(table, slice(0, 500)), "test": part(table, slice(500, 600))}
    data = {name: reader_of(rows, "digit", digit="category") for name, rows in parts.items()}
    whole = handle_for(tmp_path / "whole", table, "digit", 500)
    whole.datasets = data
    wanted = Fitted.model_validate(train(given(whole), whole))
    dies = Dies(tmp_path / "job", datasets=data, after=after)
    with pytest.raises(ConnectionAbortedError):
        train(given(dies), dies)
    goes_on = handle_for(tmp_path, table, "digit", 500)
    goes_on.datasets = data
    found = Fitted.model_validate(train(given(goes_on), goes_on))
    assert any("goes on from epoch" in line for line in goes_on.lines)
    assert goes_on.read(found.weights) == whole.read(wanted.weights)
    assert found.history == wanted.history


def wrong(tmp_path: Path, model: Any, compiled: dict[str, Any] | None = None) -> str:
    handle = handle_for(tmp_path, patients(), "progress", 350)
    with pytest.raises(Invalid) as error:
        train(asked(handle, model, compiled or {}, target=TARGETS), handle)
    return str(error.value)


def test_what_does_not_fit_is_told_by_target(tmp_path: Path) -> None:
    import torch
    from torch import nn

    one = nn.Linear(9, 2)
    assert "one Tensor for 2 targets: return a dict by target" in wrong(tmp_path / "one", one)

    class Named(nn.Module):
        def __init__(self, classes: int, *names: str) -> None:
            super().__init__()
            self.names, self.out = names, nn.Linear(9, classes)

        def forward(self, x: Any) -> Any:
            return {name: self.out(x) if number == 0 else self.out(x)[:, :1] for number, name in enumerate(self.names)}

    assert "gives outputs pressure, other for the targets" in wrong(tmp_path / "named", Named(2, "pressure", "other"))
    assert "target 'pressure': the target has 2 classes" in wrong(tmp_path / "classes", Named(3, *TARGETS))
    said = wrong(tmp_path / "loss", Named(2, *TARGETS), {"loss": {"other": "mse"}})
    assert "loss: 'other' is none of the targets pressure, progress" in said
    said = wrong(tmp_path / "kind", Named(2, *TARGETS), {"loss": ["cross_entropy", "cross_entropy"]})
    assert "target 'progress': the loss is for classes" in said
    handle = handle_for(tmp_path / "alone", patients(), "progress", 350)
    with pytest.raises(Invalid, match="loss: several are given, and the model has one target"):
        train(asked(handle, nn.Linear(10, 1), {"loss": {"progress": "mse"}}), handle)
    assert torch.is_grad_enabled()
