"""Ways to learn, on models and data for which each shows; see tests/contracts for what is kept in a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.warm import keras_here
from tests.training.test_work import asked, cancer, handle_for, net

from leptonai.core import plugins
from leptonai.core.errors import Invalid, Unsupported
from leptonai.core.learning import Learning, Way
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


def rare(rows: int = 1200) -> dict[str, Any]:
    """One row in twelve is of the rare class, and the two overlap."""
    rng = np.random.default_rng(1)
    kind = rng.random(rows) < 1 / 12
    return {
        "x": rng.normal(size=rows) + 1.5 * kind,
        "z": rng.normal(size=rows),
        "y": np.where(kind, "rare", "usual").astype(object),
    }


@pytest.mark.parametrize("learning", [{"class_weights": "balanced"}, {"balanced_sampling": True}])
def test_rare_classes_are_found_with_weights_or_even_sampling(tmp_path: Path, learning: dict[str, Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    found = {}
    for name, how in (("plain", {}), ("asked", learning)):
        for kind, model in (("torch", net(2)), ("sklearn", LogisticRegression())):
            compiled = {"metrics": ["recall"], **({"optimizer": "adam"} if kind == "torch" else {})}
            more = {"epochs": 5, "learning": {"learning_rate": 0.02, **how}} if kind == "torch" else {"learning": how}
            handle = handle_for(tmp_path / f"{kind}-{name}", rare(), "y", 800)
            result = train(asked(handle, model, compiled, validation="test", **more), handle)
            found[kind, name] = result["history"]["val_recall"][-1]
    for kind in ("torch", "sklearn"):
        assert found[kind, "asked"] > found[kind, "plain"] + 0.1, found


def learner_of(module: Any, learning: dict[str, Any], compiled: dict[str, Any] | None = None, **way: Any) -> Any:
    framework = plugins.framework("torch")
    learner: Any = framework.load(framework.pack(module, compiled or {"optimizer": "sgd"}).code)
    learner.learn_by(Way(Learning.model_validate(learning), **way))
    return learner


X = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
Y = np.arange(12) % 2


def taught(learning: dict[str, Any], batches: int = 4, **more: Any) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    learner = learner_of(nn.Linear(6, 2), learning, **more)
    learner.begin(X, Y, "classification", 2, 0)
    for number in range(batches):
        rows = slice(3 * number, 3 * number + 3)
        learner.step(X[rows], Y[rows])
    return learner


def numbers(learner: Any) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in learner.model.parameters()])


def test_gradients_that_are_added_up_make_the_step_of_one_large_batch() -> None:
    small = taught({"accumulate": 4, "learning_rate": 0.1})
    large = taught({"learning_rate": 0.1}, batches=0)
    large.step(X, Y)
    assert np.allclose(numbers(small), numbers(large), atol=1e-7)


def test_a_clipped_gradient_is_no_longer_than_asked() -> None:
    before = numbers(taught({}, batches=0))
    for learning, norm in (({"clip_norm": 1e-3}, 1e-3), ({"clip_value": 1e-4}, 1e-4 * 14**0.5)):
        moved = numbers(taught({"learning_rate": 1.0, **learning}, batches=1)) - before
        assert 0 < np.linalg.norm(moved) <= norm * 1.001


def test_weights_decay_and_biases_do_not() -> None:
    from torch import nn

    learner = taught({"weight_decay": 0.5, "learning_rate": 0.1, "clip_norm": 1e-9}, batches=1)
    plain = taught({}, batches=0)
    assert isinstance(learner.model, nn.Linear)
    assert np.allclose(learner.model.weight.detach(), 0.95 * plain.model.weight.detach(), atol=1e-6)
    assert np.allclose(learner.model.bias.detach(), plain.model.bias.detach(), atol=1e-6)


def test_the_average_is_what_is_measured_and_kept_and_the_last_weights_learn_on() -> None:
    plain = [numbers(taught({"learning_rate": 0.5}, batches=many)) for many in (1, 2, 3)]
    learner = taught({"learning_rate": 0.5, "ema": 0.75}, batches=3)
    average = 0.75 * (0.75 * plain[0] + 0.25 * plain[1]) + 0.25 * plain[2]
    assert np.array_equal(numbers(learner), plain[2])
    raw = learner.predict(X)
    assert np.allclose(numbers(learner), average, atol=1e-6)
    assert np.allclose(raw, X @ average[:12].reshape(2, 6).T + average[12:], atol=1e-5)
    learner.step(X[9:], Y[9:])
    learner.state()
    assert np.array_equal(numbers(learner), numbers(taught({"learning_rate": 0.5}, batches=4)))
    kept = learner.weights()
    learner.load_weights(kept)
    assert learner.weights() == kept


def test_smoothed_labels_and_weighed_classes_are_those_of_pytorch() -> None:
    import torch
    from torch.nn.functional import cross_entropy

    learner = taught({"label_smoothing": 0.2}, batches=0, class_weights=(0.5, 2.0))
    output, y = learner.model(torch.from_numpy(X)).detach(), torch.from_numpy(Y)
    rows = cross_entropy(output, y, reduction="none", label_smoothing=0.2)
    learner.step(X, Y)
    assert learner.last_loss == pytest.approx(float((rows * torch.tensor([0.5, 2.0])[y]).mean()), rel=1e-6)
    learner.metrics()
    learner.measure(X, Y)
    with torch.no_grad():
        plain = float(cross_entropy(learner.model(torch.from_numpy(X)), y))
    assert learner.metrics()["loss"] == pytest.approx(plain, rel=1e-6)  # measured as it is


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", ["torch", "keras"])
def test_dropout_layers_leave_out_the_share_that_was_asked_for(kind: str) -> None:
    if kind == "torch":
        from torch import nn

        model: Any = nn.Sequential(nn.Linear(6, 400), nn.Dropout(0.1), nn.Linear(400, 2))
    else:
        keras = keras_here()
        model = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(400), keras.layers.Dropout(0.1), keras.layers.Dense(2)]
        )
    framework = plugins.framework(kind)
    options = {"optimizer": "sgd"} | (
        {} if kind == "torch" else {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    )
    learner: Any = framework.load(framework.pack(model, options).code)
    learner.learn_by(Way(Learning(dropout=0.9)))
    learner.begin(X, Y, "classification", 2, 0)
    layer = (list(learner.model) if kind == "torch" else learner.model.layers)[1]
    if kind == "torch":
        import torch

        dropped = layer.train()(torch.ones(10_000)) == 0
    else:
        dropped = np.asarray(keras.ops.convert_to_numpy(layer(np.ones((1, 10_000), np.float32), training=True))) == 0
    assert 0.85 < float(np.asarray(dropped).mean()) < 0.95
    learner.step(X, Y)


def test_what_a_loss_or_an_estimator_cannot_do_is_said(tmp_path: Path) -> None:
    import torch
    from sklearn.neighbors import KNeighborsClassifier

    with pytest.raises(Unsupported, match="label_smoothing: NLLLoss takes no shares"):
        learner_of(net(), {"label_smoothing": 0.1}, {"loss": "nll_loss"}).begin(X, Y, "classification", 2, 0)
    whole = learner_of(net(), {}, {"loss": lambda output, y: output.mean()}, class_weights=(1.0, 2.0))
    with pytest.raises(Unsupported, match="one number for a batch"):
        whole.begin(X, Y, "classification", 2, 0)
    with pytest.raises(Unsupported, match="dropout: the model has no layer of dropout"):
        learner_of(torch.nn.Sequential(torch.nn.Linear(6, 2)), {"dropout": 0.2}).begin(X, Y, "classification", 2, 0)
    handle = handle_for(tmp_path, cancer(), "diagnosis", 400)
    with pytest.raises(Invalid, match="KNeighborsClassifier weighs no rows: use balanced_sampling"):
        train(asked(handle, KNeighborsClassifier(), learning={"class_weights": "balanced"}), handle)
