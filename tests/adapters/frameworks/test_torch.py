"""PyTorch: optimisers, losses and metrics by name or object; targets as each loss wants them."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import nn
from torch.nn import functional

from leptonai.adapters.frameworks import torch_metrics, torch_parts
from leptonai.core import plugins
from leptonai.core.errors import Invalid, Unsupported

pytestmark = pytest.mark.usefixtures("warm")


FRAMEWORK = plugins.framework("torch")


def begun(model: Any, compiled: dict[str, Any], x: Any, y: Any, task: str, classes: int = 0) -> Any:
    learner = FRAMEWORK.load(FRAMEWORK.pack(model, compiled).code)
    learner.begin(x, y, task, classes, 0)
    return learner


def rows(outputs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 4)).astype(np.float32), np.arange(30) % outputs


@pytest.mark.parametrize(
    ("given", "kind", "lr"),
    [
        ("SGD", torch.optim.SGD, 1e-3),
        ("adamw", torch.optim.AdamW, 1e-3),
        (torch.optim.RMSprop, torch.optim.RMSprop, 1e-2),
        (functools.partial(torch.optim.Adam, lr=0.5), torch.optim.Adam, 0.5),
        (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.25, momentum=0.9), torch.optim.SGD, 0.25),
        (lambda parameters: torch.optim.Adagrad(parameters, lr=0.125), torch.optim.Adagrad, 0.125),
        (None, torch.optim.Adam, 1e-3),
    ],
)
def test_optimizers(given: Any, kind: type, lr: float) -> None:
    made = torch_parts.optimizer(given).build(nn.Linear(2, 2))
    assert isinstance(made, kind)
    assert made.param_groups[0]["lr"] == lr


def test_every_named_optimizer_learns() -> None:
    x, y = rows()
    for name in torch_parts.optimizers():
        if name in ("sparseadam", "muon"):  # for sparse gradients, and for matrices only
            continue
        learner = begun(nn.Linear(4, 3), {"optimizer": name, "loss": "ce"}, x, y, "classification", 3)
        learner.step(x, y)
        state = learner.state()
        learner.step(x, y)
        wanted = learner.weights()
        learner.restore(state)
        learner.step(x, y)
        assert learner.weights() == wanted, name


def test_optimizers_that_cannot_be_used() -> None:
    part = nn.Linear(1, 1)
    groups = torch.optim.SGD([{"params": part.weight}, {"params": part.bias, "lr": 1.0}])
    for given, error, says in (
        (groups, Unsupported, "several groups"),
        (torch.optim.LBFGS, Unsupported, "several times a step"),
        (torch.optim.LBFGS(part.parameters()), Unsupported, "several times a step"),
        (3, Invalid, "neither a name"),
        ("lbfgs", Invalid, "known are"),
    ):
        with pytest.raises(error, match=says):
            torch_parts.optimizer(given)
    with pytest.raises(Invalid, match="no parameter to train"):
        torch_parts.optimizer("adam").build(nn.Flatten())
    with pytest.raises(Invalid, match="gave a int"):
        torch_parts.optimizer(lambda parameters: 3).build(part)
    with pytest.raises(Invalid, match="'learning_rate' is not known"):
        FRAMEWORK.pack(part, {"learning_rate": 3})


@pytest.mark.parametrize(
    ("model", "loss", "activation"),
    [
        (nn.Linear(4, 3), "cross_entropy", "softmax"),
        (nn.Linear(4, 3), nn.CrossEntropyLoss(label_smoothing=0.1), "softmax"),
        (nn.Linear(4, 3), functional.cross_entropy, "softmax"),
        (nn.Linear(4, 3), None, "softmax"),
        (nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)), "nll", "softmax"),
        (nn.Linear(4, 3), "bce_with_logits", "sigmoid"),
        (nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()), nn.BCELoss, "none"),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), "mse", "none"),
        (nn.Linear(4, 3), nn.MultiMarginLoss(), "softmax"),
        (nn.Linear(4, 3), lambda output, y: functional.cross_entropy(output, y), "softmax"),
    ],
)
def test_losses_of_classes(model: nn.Module, loss: Any, activation: str) -> None:
    x, y = rows()
    learner = begun(model, {} if loss is None else {"loss": loss}, x, y, "classification", 3)
    before = [learner.step(x, y), learner.metrics()["loss"]][1]
    for _ in range(60):
        learner.step(x, y)
    assert learner.metrics()["loss"] < before
    assert learner.activation == activation


@pytest.mark.parametrize("shape", ["one", "flat"])
@pytest.mark.parametrize(("loss", "activation"), [("bce_with_logits", "sigmoid"), (None, "sigmoid")])
def test_one_output_for_two_classes(shape: str, loss: Any, activation: str) -> None:
    x, y = rows(2)
    tail = [nn.Flatten(0)] if shape == "flat" else []
    learner = begun(nn.Sequential(nn.Linear(4, 1), *tail), {"loss": loss} if loss else {}, x, y, "classification", 2)
    learner.step(x, y)
    assert learner.activation == activation


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "smooth_l1", nn.MSELoss(), functional.l1_loss, None])
@pytest.mark.parametrize("tail", ["one", "flat", "columns"])
def test_losses_of_values(loss: Any, tail: str) -> None:
    x, y = rows()[0], np.arange(30, dtype=np.float32)
    model = {
        "one": nn.Linear(4, 1),
        "flat": nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)),
        "columns": nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Linear(1, 1)),
    }[tail]
    learner = begun(model, {"loss": loss, "metrics": ["mae"]} if loss else {"metrics": ["mae"]}, x, y, "regression")
    learner.measure(x, y)
    output = learner.predict(x)
    wanted = np.abs(output.reshape(30, -1) - y[:, None]).mean()
    assert learner.metrics()["mae"] == pytest.approx(wanted, rel=1e-5)
    assert learner.activation == "value"


def test_metrics_are_those_of_scikit_learn() -> None:
    x, y = rows()
    names = ["accuracy", "precision", "recall", "f1"]
    learner = begun(nn.Linear(4, 3), {"metrics": names}, x, y, "classification", 3)
    for at in range(0, 30, 7):
        learner.measure(x[at : at + 7], y[at : at + 7])
    predicted = learner.predict(x).argmax(1)
    wanted = sk.precision_recall_fscore_support(y, predicted, average="macro", zero_division=0)
    found = learner.metrics()
    assert [found[name] for name in names] == pytest.approx([sk.accuracy_score(y, predicted), *wanted[:3]])

    values = np.linspace(0, 9, 30, dtype=np.float32)
    names = ["mae", "mse", "rmse", "r2"]
    learner = begun(nn.Linear(4, 1), {"metrics": names}, x, values, "regression")
    for at in range(0, 30, 7):
        learner.measure(x[at : at + 7], values[at : at + 7])
    predicted = learner.predict(x)[:, 0]
    wanted_values = [
        f(values, predicted)
        for f in (sk.mean_absolute_error, sk.mean_squared_error, sk.root_mean_squared_error, sk.r2_score)
    ]
    found = learner.metrics()
    assert [found[name] for name in names] == pytest.approx(wanted_values, rel=1e-5)


def test_a_metric_of_the_users_own_has_its_own_name() -> None:
    def spread(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return output.std()

    x, y = rows()
    learner = begun(nn.Linear(4, 3), {"metrics": [spread, "acc"]}, x, y, "classification", 3)
    learner.step(x, y)
    assert set(learner.metrics()) == {"loss", "spread", "acc"}
    with pytest.raises(Invalid, match="for classes"):
        begun(nn.Linear(4, 1), {"metrics": ["accuracy"]}, x, y.astype(np.float32), "regression")
    with pytest.raises(Invalid, match="did you mean 'accuracy'"):
        torch_metrics.check(["acuracy"])


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), r"takes 3 channels, and the data gives 1"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(9, 3)), r"takes 9 features and gets 144"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), r"3 classes, and the model gives outputs of shape \(5,\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), "loss 'bce_with_logits'"),
        (nn.LSTM(8, 4), "cannot take rows|does not fit"),
    ],
)  # fmt: skip
def test_images_that_do_not_fit(model: nn.Module, says: str) -> None:
    x, y = np.zeros((6, 1, 8, 8), np.float32), np.arange(6) % 3
    with pytest.raises(Invalid, match=says):
        begun(model, {"loss": "cross_entropy"}, x, y, "classification", 3)


def test_lazy_layers_and_an_embedding() -> None:
    x, y = rows()
    lazy = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    learner = begun(lazy, {}, x, y, "classification", 3)
    learner.step(x, y)
    assert learner.parameters == 4 * 8 + 8 + 8 * 3 + 3
    FRAMEWORK.absorb(lazy, learner.weights())
    assert lazy[0].weight.shape == (8, 4)
    packed = FRAMEWORK.pack(nn.Sequential(nn.Embedding(7, 2), nn.Flatten(), nn.Linear(8, 3)), {})
    learner = FRAMEWORK.load(packed.code)
    assert (learner.input_dtype, learner.entries, packed.facts["parameters"]) == ("int64", 7, 14 + 27)


def test_tied_weights_and_buffers_are_kept() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
            self.b.weight = self.a.weight
            self.out = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.norm(self.b(self.a(x))))

    x, y = rows()
    mine = Tied()
    learner = begun(mine, {}, x, y, "classification", 3)
    learner.step(x, y)
    FRAMEWORK.absorb(mine, learner.weights())
    assert mine.b.weight is mine.a.weight
    assert int(mine.norm.num_batches_tracked) == 1
    assert torch.equal(mine.norm.running_mean, learner.model.norm.running_mean)
    with pytest.raises(Invalid, match="do not fit this model"):
        FRAMEWORK.absorb(nn.Linear(4, 3), learner.weights())
