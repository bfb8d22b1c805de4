"""What a training Run does, from the spec to what it learnt, with real models on real data."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.handle import FileHandle, reader_of
from tests.support.warm import keras_here

from leptonai.adapters.frameworks import arrays
from leptonai.core import plugins
from leptonai.core.errors import Fenced, Invalid
from leptonai.core.stages import Shuffle
from leptonai.training import checkpoint
from leptonai.training.encoder import Options, fit
from leptonai.training.predictor import from_files
from leptonai.training.rows import Rows
from leptonai.training.spec import Fitted, Predict, Train
from leptonai.training.work import predict, train

pytestmark = pytest.mark.usefixtures("warm", "here")


def cancer() -> dict[str, Any]:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    names = [name.replace(" ", "_") for name in found.feature_names[:6]]
    table: dict[str, Any] = {name: found.data[:, i] for i, name in enumerate(names)}
    table["diagnosis"] = np.array([str(found.target_names[i]) for i in found.target], dtype=object)
    return table


def part(table: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    return {name: values[rows] for name, values in table.items()}


def handle_for(tmp_path: Path, table: dict[str, Any], target: str, cut: int, **types: str) -> FileHandle:
    count = len(table[target])
    parts = {"train": part(table, slice(0, cut)), "test": part(table, slice(cut, count))}
    return FileHandle(
        tmp_path / "job", datasets={name: reader_of(data, target, **types) for name, data in parts.items()}
    )


def asked(handle: FileHandle, model: Any, compiled: Mapping[str, Any] | None = None, **spec: Any) -> Train:
    framework = plugins.framework_of(model)
    packed = framework.pack(model, compiled or {})
    given = {"framework": framework.name, "flavour": packed.flavour, "code": handle.write(packed.code)}
    return Train.model_validate({"data": "train", **given, **spec})


def net(inputs: int = 6, outputs: int = 2) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, outputs))


def predictions(handle: FileHandle, result: dict[str, Any], data: str = "test") -> np.ndarray:
    run = handle.ended(result)
    found = predict(Predict(run=run.id, data=data), handle)
    array = np.load(BytesIO(handle.read(found["predictions"])), allow_pickle=False)
    assert list(array.shape) == found["shape"]
    return array


def test_a_training_learns_what_a_loop_by_hand_learns(tmp_path: Path) -> None:
    """From the same weights, in the same order, but for rounding: nothing is added to what was asked."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    def network() -> Any:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10))

    found = load_digits()
    images, labels = (found.images[:300] * 15.9).astype("uint8")[..., None], found.target[:300].astype("int64")
    reader = reader_of({"image": images, "label": labels}, "label", label="category")
    handle = FileHandle(tmp_path / "job", datasets={"train": reader})
    spec = asked(handle, network(), {"optimizer": "adam", "loss": "cross_entropy"}, epochs=3, batch_size=64)
    learnt, _ = arrays.parse(handle.read(train(spec, handle)["weights"]))
    hand, loss = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(hand.parameters(), fused=True)
    x, y = torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255)), torch.from_numpy(labels)
    for epoch in range(spec.epochs):
        for rows in torch.from_numpy(reader.order(Shuffle(spec.seed), epoch)).split(spec.batch_size):
            optimizer.zero_grad()
            loss(hand(x[rows]), y[rows]).backward()
            optimizer.step()
    for name, value in hand.state_dict().items():
        np.testing.assert_allclose(learnt[name], value.numpy(), rtol=0, atol=1e-6, err_msg=name)


def test_a_table_in_pytorch(tmp_path: Path) -> None:
    table = cancer()
    handle = handle_for(tmp_path, table, "diagnosis", 400)
    mine = net()
    spec = asked(
        handle, mine, {"optimizer": "adam", "loss": "cross_entropy", "metrics": ["accuracy", "recall"]},
        validation="test", epochs=8, seed=1,
    )  # fmt: skip
    result = train(spec, handle)
    fitted = Fitted.model_validate(result)
    assert set(fitted.history) == {"loss", "accuracy", "recall", "val_loss", "val_accuracy", "val_recall"}
    assert all(len(values) == 8 for values in fitted.history.values())
    assert fitted.history["loss"][-1] < 0.7 * fitted.history["loss"][0]
    assert fitted.history["val_accuracy"][-1] > 0.85
    assert (fitted.activation, fitted.epochs, fitted.parameters) == ("softmax", 8, 6 * 16 + 16 + 16 * 2 + 2)
    assert fitted.versions.keys() == {"python", "lepton-ai-sdk", "numpy", "torch"}
    assert [step for step, _ in handle.metrics] == list(range(1, 9))
    assert handle.metrics[-1][1] == {name: values[-1] for name, values in fitted.history.items()}
    assert handle.shown[-1] == (8 * 13, 8 * 13, "batches")
    assert sum(line.startswith("epoch ") for line in handle.lines) == 8
    scores = predictions(handle, result)
    assert scores.shape == (169, 2)
    assert np.allclose(scores.sum(1), 1, atol=1e-5)
    plugins.framework("torch").absorb(mine, handle.read(fitted.weights))
    again = from_files(handle.read(fitted.code), handle.read(fitted.weights), result)
    assert np.array_equal(again.scores(handle.data("test").read()), scores)


def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    import struct

    from tensorboardX.proto.event_pb2 import Event

    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    fitted = Fitted.model_validate(train(asked(handle, net(), epochs=2, validation="test"), handle))
    data, events, at = handle.read(fitted.events or ""), [], 0
    while at < len(data):
        (size,) = struct.unpack("<Q", data[at : at + 8])
        events.append(Event.FromString(data[at + 12 : at + 12 + size]))
        at += 16 + size
    assert events[0].file_version == "brain.Event:2"
    scalars = {(e.step, v.tag): v.simple_value for e in events for v in e.summary.value}
    assert scalars[(1, "train/loss")] == pytest.approx(fitted.history["loss"][1])
    assert scalars[(0, "validation/loss")] == pytest.approx(fitted.history["val_loss"][0])
    assert not list(Path.cwd().glob("**/*tfevents*"))  # they are in the store, and nowhere else


class Dies(FileHandle):
    """Its process is gone after so many batches: nothing that comes later leaves a trace."""

    def __init__(self, *args: Any, after: int, **more: Any):
        super().__init__(*args, **more)
        self.after = after

    def progress(self, done: float, total: float, unit: str) -> None:
        if done >= self.after:
            raise ConnectionAbortedError("killed")


def test_a_training_that_dies_after_any_batch_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leptonai.training.loop._PROGRESS_SECONDS", 0)
    whole = handle_for(tmp_path, cancer(), "diagnosis", 100)
    compiled = {"optimizer": "adam", "metrics": ["accuracy", "f1"]}
    options = {"validation": "test", "epochs": 3, "batch_size": 16, "checkpoint_seconds": 1e-9, "seed": 5}
    spec = asked(whole, net(), compiled, **options)
    wanted = train(spec, whole)
    for after in range(1, 22):
        folder = tmp_path / str(after)
        dies = Dies(folder, datasets=whole.datasets, after=after)
        dies.blobs, dies.raw = whole.blobs, whole.raw
        with pytest.raises(ConnectionAbortedError):
            train(spec, dies)
        again = FileHandle(folder, datasets=whole.datasets)
        again.blobs, again.raw = whole.blobs, whole.raw
        found = train(spec, again)
        assert whole.read(found["weights"]) == whole.read(wanted["weights"]), after
        assert found["history"] == wanted["history"], after
        assert found["encoding"] == wanted["encoding"]


def test_a_checkpoint_that_cannot_be_read_is_said_and_not_used(tmp_path: Path) -> None:
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    handle.save({"course.json": b"{}"})
    assert train(asked(handle, net()), handle)["epochs"] == 1
    assert "starts anew" in handle.lines[0]


def test_an_attempt_that_lost_its_lease_ends(tmp_path: Path) -> None:
    class Lost(FileHandle):
        def save(self, state: Mapping[str, bytes]) -> None:
            raise Fenced("another attempt runs")

    whole = handle_for(tmp_path, cancer(), "diagnosis", 400)
    lost = Lost(tmp_path / "job", datasets=whole.datasets)
    with pytest.raises(Fenced):
        train(asked(whole, net(), epochs=50, checkpoint_seconds=1e-9), lost)


def test_early_stopping_goes_back_to_the_best(tmp_path: Path) -> None:
    table = cancer()
    rng = np.random.default_rng(0)
    table["diagnosis"] = rng.permutation(table["diagnosis"])  # nothing to learn: validation gets worse
    handle = handle_for(tmp_path, table, "diagnosis", 300)
    rule = {"monitor": "val_loss", "patience": 2}
    spec = asked(
        handle, net(), {"optimizer": "adam", "metrics": ["accuracy"]}, validation="test", epochs=60, early_stopping=rule
    )
    result = train(spec, handle)
    losses = result["history"]["val_loss"]
    assert result["epochs"] == len(losses) < 60
    best = min(losses)
    assert losses.index(best) == len(losses) - 3
    assert any("has not got better for 2 epochs" in line for line in handle.lines)
    assert any(f"went back to the weights of epoch {losses.index(best) + 1}" in line for line in handle.lines)
    scores = predictions(handle, result)
    classes = Fitted.model_validate(result).encoding.classes
    truth = np.array([classes.index(name) for name in table["diagnosis"][300:]])
    assert -np.log(scores[np.arange(len(truth)), truth]).mean() == pytest.approx(best, rel=1e-4)


def test_a_metric_to_watch_must_be_there(tmp_path: Path) -> None:
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    spec = asked(handle, net(), early_stopping={"monitor": "acuracy"})
    with pytest.raises(Invalid, match=r"'acuracy'.*measured are loss"):
        train(spec, handle)


def test_a_loss_that_is_not_a_number_ends_it_and_keeps_what_was_good(tmp_path: Path) -> None:
    table = {"x": np.linspace(-1, 1, 200), "y": np.linspace(0, 1e6, 200)}
    handle = handle_for(tmp_path, table, "y", 200)
    spec = asked(
        handle, net(1, 1), {"optimizer": "sgd", "loss": "mse"}, epochs=4, batch_size=10, checkpoint_seconds=1e-9
    )
    with pytest.raises(
        Invalid, match=r"not a number any more \(epoch 1, batch \d+\): .*clip_norm.* last checkpoint is that of"
    ):
        train(spec, handle)
    kept = checkpoint.read(handle.restore() or {})
    weights, _ = arrays.parse(kept.learner["weights.safetensors"])
    assert all(np.isfinite(value).all() for value in weights.values())


def test_a_model_that_fails_is_told_where(tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.calls = nn.Linear(6, 2), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            if self.calls > 2:
                raise KeyError("no such thing")
            return self.layer(x)

    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    with pytest.raises(Invalid, match=r"epoch 1, batch 3 of training: KeyError: 'no such thing'"):
        train(asked(handle, Fails()), handle)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: net(7), r"takes 7 features, and the data gives 6.*mean_radius, mean_texture"),
        (lambda: net(6, 3), r"2 classes.*outputs of shape \(3,\) a row"),
        (lambda: net(6, 1), "bce_with_logits|2 classes"),
    ],
)
def test_a_model_that_does_not_fit(tmp_path: Path, model: Any, says: str) -> None:
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    with pytest.raises(Invalid, match=says):
        train(asked(handle, model(), {"loss": "cross_entropy"}), handle)


def test_one_output_for_two_classes(tmp_path: Path) -> None:
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    spec = asked(handle, net(6, 1), {"loss": "bce_with_logits", "metrics": ["accuracy"]}, epochs=6)
    result = train(spec, handle)
    assert result["activation"] == "sigmoid"
    assert result["history"]["accuracy"][-1] > 0.8
    scores = predictions(handle, result)
    assert scores.shape == (169, 2)
    assert np.allclose(scores.sum(1), 1)


def test_scikit_learn_learns_in_one_fit(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    mine = LogisticRegression(max_iter=3)
    spec = asked(handle, mine, {"metrics": ["accuracy"]}, validation="test", epochs=5)
    result = train(spec, handle)
    assert set(result["history"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert result["history"]["val_accuracy"][0] > 0.85
    assert any("epochs is not used" in line for line in handle.lines)
    assert any("converge" in line for line in handle.lines)
    scores = predictions(handle, result)
    assert scores.shape == (169, 2)
    plugins.framework("sklearn").absorb(mine, handle.read(result["weights"]))
    assert mine.coef_.shape == (1, 6)


def test_scikit_learn_and_a_class_that_the_training_part_lacks(tmp_path: Path) -> None:
    from sklearn.naive_bayes import GaussianNB

    table = {"x": np.arange(9.0), "y": np.array(["a", "b", "c"] * 3, dtype=object)}
    handle = handle_for(tmp_path, table, "y", 9)
    whole = handle.data("train")
    handle.datasets["train"] = type(whole)(whole.columns, part(whole.read(), slice(0, 2)), "y")
    result = train(asked(handle, GaussianNB()), handle)
    assert Fitted.model_validate(result).encoding.classes == ("a", "b", "c")
    handle.datasets["test"] = whole
    assert predictions(handle, result)[:, 2].tolist() == [0.0] * 9


def test_without_a_model_a_table_gets_trees(tmp_path: Path) -> None:
    table = cancer()
    table["mean_radius"] = np.where(np.arange(569) % 7 == 0, np.nan, table["mean_radius"])
    handle = handle_for(tmp_path, table, "diagnosis", 400)
    result = train(Train(data="train", validation="test", seed=1), handle)
    fitted = Fitted.model_validate(result)
    assert (fitted.framework, fitted.flavour) == ("sklearn", "sklearn")
    assert {feature.op for feature in fitted.encoding.features} == {"raw"}
    assert fitted.history["val_accuracy"][0] > 0.85
    assert predictions(handle, result).shape == (169, 2)


def test_without_a_model_images_get_a_network(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    found = load_digits()
    table = {"image": (found.images * 15.9).astype("uint8")[..., None], "label": found.target.astype("int64")}
    handle = handle_for(tmp_path, table, "label", 1400, label="category")
    result = train(Train(data="train", validation="test", epochs=3), handle)
    assert (result["framework"], result["encoding"]["layout"]) == ("torch", "channels_first")
    assert result["history"]["val_accuracy"][-1] > 0.85


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_promised_snippet(tmp_path: Path) -> None:
    keras = keras_here()
    layers = keras.layers
    table = {"word": np.arange(240) % 50, "other": np.arange(240) % 11, "label": (np.arange(240) % 50) / 50}
    handle = handle_for(tmp_path, table, "label", 192)
    mine = keras.Sequential([layers.Embedding(10000, 64), layers.Dense(64), layers.Dense(1)])
    mine.compile(optimizer="adam", loss="mse", metrics=["mae"])
    result = train(asked(handle, mine, epochs=5, validation="test"), handle)
    assert result["encoding"]["dtype"] == "int64"
    assert result["history"]["loss"][-1] < result["history"]["loss"][0]
    assert len(result["history"]["val_mae"]) == 5
    values = predictions(handle, result)
    assert values.shape == (48, 2, 1)
    plugins.framework("keras").absorb(mine, handle.read(result["weights"]))
    x = np.stack([table["word"][192:], table["other"][192:]], axis=1)
    assert np.allclose(mine.predict(x, verbose=0), values, atol=1e-5)


def test_an_embedding_names_the_column_that_it_cannot_take(tmp_path: Path) -> None:
    from torch import nn

    table = {"word": np.arange(40), "other": np.arange(40) - 3, "y": np.arange(40.0)}
    handle = handle_for(tmp_path, table, "y", 40)
    model = nn.Sequential(nn.Embedding(100, 4), nn.Flatten(), nn.Linear(8, 1))
    with pytest.raises(Invalid, match=r"embedding of 100 entries.*'other' holds -3"):
        train(asked(handle, model), handle)
    table["other"] = np.arange(40)
    handle = handle_for(tmp_path, table, "y", 40)
    assert train(asked(handle, model, {"metrics": ["mae"]}, epochs=2), handle)["encoding"]["dtype"] == "int64"


@pytest.mark.parametrize("layout", ["table", "image"])
def test_rows_that_do_not_fit_into_memory_give_the_same_batches(layout: str) -> None:
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {"y": np.arange(50.0)}
    if layout == "table":
        table |= {"a": rng.normal(size=50), "c": np.array(["u", "v"] * 25, dtype=object)}
    else:
        table["image"] = rng.integers(0, 255, (50, 4, 4, 1)).astype(np.uint8)
    reader = reader_of(table, "y")
    encoding = fit(reader, None, None, Options(images="channels_first"))
    held, read = Rows(reader, encoding), Rows(reader, encoding, memory=0)
    for shuffle, start in ((None, 0), (None, 16), (Shuffle(1), 0), (Shuffle(1), 32)):
        ours = list(held.batches(16, shuffle, 2, start))
        theirs = list(read.batches(16, shuffle, 2, start))
        assert len(ours) == len(theirs) == -(-(50 - start) // 16)
        for (a, b), (c, d) in zip(ours, theirs, strict=True):
            assert np.array_equal(a, c)
            assert np.array_equal(b, d)
    assert np.array_equal(held.all()[0], read.all()[0])


def test_a_rule_that_watches_accuracy_wants_more_of_it() -> None:
    from leptonai.training.watch import is_more_better

    assert is_more_better("val_accuracy")
    assert not is_more_better("val_loss")
    assert not is_more_better("val_accuracy", "min")
