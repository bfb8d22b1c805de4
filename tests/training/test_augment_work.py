"""Trainings on augmented batches, with real models on real data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.handle import FileHandle, reader_of
from tests.support.warm import keras_here

from leptonai.core import plugins
from leptonai.core.errors import Invalid
from leptonai.training.spec import Train
from leptonai.training.work import train

pytestmark = pytest.mark.usefixtures("warm", "here")


def digits(folder: Path, rows: int, seed: int = 0) -> FileHandle:
    """Few rows to learn from, and many to measure on."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images, labels = (found.images * 15.9).astype("uint8")[..., None], found.target.astype("int64")
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = {"train": order[:rows], "test": order[-800:]}
    return FileHandle(
        folder, datasets={
            name: reader_of({"image": images[part], "label": labels[part]}, "label", label="category")
            for name, part in parts.items()
        },
    )  # fmt: skip


def learnt(handle: FileHandle, model: Any, compiled: dict[str, Any], **spec: Any) -> dict[str, Any]:
    framework = plugins.framework_of(model)
    packed = framework.pack(model, compiled)
    given = {"framework": framework.name, "flavour": packed.flavour, "code": handle.write(packed.code)}
    return train(Train.model_validate({"data": "train", "validation": "test", **given, **spec}), handle)


def network(seed: int = 0) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


TORCH = {"optimizer": "adam", "loss": "cross_entropy", "metrics": ["accuracy"]}


def test_few_digits_teach_more_when_they_are_changed(tmp_path: Path) -> None:
    """Over several choices of 60 rows, accuracy on 800 others is higher in the mean, and in none lower by more than a point."""
    from sklearn.linear_model import LogisticRegression

    steps = ({"op": "rotate", "degrees": 10, "fill": "zero"}, {"op": "crop", "least": 0.85})
    gains = []
    for seed in range(6):
        found = []
        for augment in ((), steps):
            handle = digits(tmp_path / f"{seed}{bool(augment)}", 60, seed)
            model = LogisticRegression(max_iter=500)
            result = learnt(handle, model, {"metrics": ["accuracy"]}, epochs=10, seed=seed, augment=augment)
            found.append(result["history"]["val_accuracy"][-1])
        gains.append(found[1] - found[0])
    assert min(gains) > -0.01 and np.mean(gains) > 0.01, gains


@pytest.mark.parametrize(
    ("loss", "shares"),
    [("cross_entropy", True), ("bce_with_logits", True), ("mse", True), ("multi_margin_loss", False)],
)
def test_blended_labels_reach_a_loss_of_pytorch_that_takes_them(tmp_path: Path, loss: str, shares: bool) -> None:
    from leptonai.adapters.frameworks.torch_learner import TorchLearner

    seen: list[str] = []
    step = TorchLearner.step

    def watched(self: Any, x: Any, y: Any) -> None:
        seen.append(y.dtype.kind)
        step(self, x, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchLearner, "step", watched)
        compiled = {"optimizer": "adam", "loss": loss, "metrics": ["accuracy", "f1"]}
        result = learnt(
            digits(tmp_path / "job", 300), network(), compiled, epochs=8, batch_size=20, augment=["mixup", "cutmix"]
        )
    assert set(seen) == {"f" if shares else "i"}
    assert result["history"]["val_accuracy"][-1] > 0.5 and 0 <= result["history"]["f1"][-1] <= 1


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
def test_blended_labels_in_keras(tmp_path: Path, loss: str) -> None:
    if not keras_here():
        pytest.skip("Keras is not installed")
    import keras
    from keras import layers

    model = keras.Sequential(
        [layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")]
    )
    compiled = {"optimizer": "adam", "loss": loss, "metrics": ["accuracy"]}
    result = learnt(digits(tmp_path / "job", 400), model, compiled, epochs=6, batch_size=20, augment=["mixup"])
    assert result["history"]["val_accuracy"][-1] > 0.7


def test_a_model_of_one_fit_learns_from_changed_copies_too(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    handle = digits(tmp_path / "job", 200)
    steps = [{"op": "shift", "by": 0.13}, "mixup"]
    result = learnt(handle, LogisticRegression(max_iter=500), {"metrics": ["accuracy"]}, epochs=3, augment=steps)
    assert any("from 3 changed copies" in line for line in handle.lines)
    assert result["history"]["val_accuracy"][-1] > 0.7


def rare(tmp_path: Path) -> FileHandle:
    rng = np.random.default_rng(0)
    rows = 600
    ill = rng.random(rows) < 0.05
    table = {
        "age": rng.normal(40, 10, rows) + 12 * ill,
        "dose": rng.normal(0, 1, rows) + 1.2 * ill,
        "ward": np.array(["a", "b"], object)[rng.integers(0, 2, rows)],
        "ill": np.where(ill, "yes", "no").astype(object),
    }
    parts = {"train": slice(0, 400), "test": slice(400, rows)}
    return FileHandle(
        tmp_path / "job",
        datasets={n: reader_of({c: v[s] for c, v in table.items()}, "ill") for n, s in parts.items()},
    )


def test_smote_finds_more_of_a_rare_class(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    recall = []
    for number, steps in enumerate(((), ("smote",))):
        handle = rare(tmp_path / str(number))
        result = learnt(handle, LogisticRegression(), {"metrics": ["recall"]}, augment=steps)
        recall.append(result["history"]["val_recall"][-1])  # the mean over both classes
    assert recall[1] > recall[0] + 0.1
    assert any(line.startswith("smote: 3") and "were added to 400" in line for line in handle.lines)


def test_an_embedding_takes_no_augmentation(tmp_path: Path) -> None:
    from torch import nn

    handle = FileHandle(
        tmp_path / "job",
        datasets={"train": reader_of({"word": np.arange(40), "y": np.arange(40) % 2}, "y", y="category")},
    )
    model = nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(Invalid, match="begins with an embedding"):
        learnt(handle, model, TORCH, validation=None, augment=["noise"])
