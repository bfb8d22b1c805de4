"""A sensible model for a dataset, where the user gave none."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from leptonai.core import plugins
from leptonai.core.learning import ALL_BUT_HEAD, Learning
from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType
from leptonai.core.stages import Reader
from leptonai.training.columns import pick as pick_columns
from leptonai.training.columns import task_of
from leptonai.training.several import targets_of
from leptonai.training.spec import Encoding, Train

_EPOCHS = 10  # of a network, unless the user says
TEXT_EPOCHS = 3  # of a model of texts, which begins with much
_FILTERS = 32  # of a network's first convolution; each that follows has twice as many, up to four times
_DROPPED = 0.2  # the share that its dropout leaves out, unless the user says
_HEAD_RATE = 0.01  # of a new head alone: what suits weights that know much would leave it as it was drawn


class Picked(NamedTuple):
    """A model, how it learns, and the spec as it needs it."""

    framework: str
    model: Any
    compiled: dict[str, Any]
    spec: Train
    words: str


def flavour(features: Sequence[Column]) -> str:
    """Return which libraries the model for these columns needs."""
    return "torch" if _pictures(features) else "sklearn"


def _pictures(features: Sequence[Column]) -> bool:
    return len(features) == 1 and features[0].type == FeatureType.IMAGE and min(features[0].shape[:2]) >= 4


def epochs(features: Sequence[Column]) -> int:
    """Return how many epochs the model for these columns learns, where the user did not say."""
    return _EPOCHS if _pictures(features) else 1


def pick(spec: Train, reader: Reader) -> Picked:
    """Pick: images get a small convolutional network; all else gets gradient boosted trees, which take numbers unscaled."""
    target, features = pick_columns(reader.columns, _one(spec, reader), spec.features, spec.data)
    task = task_of(target)
    if _pictures(features):
        return _network(spec, features[0], target, task)
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
    )

    kind = HistGradientBoostingClassifier if task == "classification" else HistGradientBoostingRegressor
    unscaled = spec.model_copy(update={"scale": False})  # trees need no scale, and know what a missing number is
    model = kind(random_state=spec.seed)
    return Picked("sklearn", model, {}, unscaled, f"gradient boosted trees of scikit-learn, {kind.__name__}")


def _one(spec: Train, reader: Reader) -> str | None:
    return next(iter(targets_of(spec, reader.target)), None)


def texts(spec: Train, reader: Reader, files: Mapping[str, bytes]) -> Picked:
    """Make a model of texts of the files of a folder as Hugging Face writes it."""
    target, _ = pick_columns(reader.columns, _one(spec, reader), spec.features, spec.data, texts=True)
    task = task_of(target)
    classes = 2 if target.type == FeatureType.BOOLEAN else max(2, len(target.categories))
    made: Any = plugins.framework("torch")
    model, compiled = made.made_of(files, task, classes if task == "classification" else 1)
    what = {"generation": "a language model", "classification": "a classifier of texts"}.get(task, "a model of texts")
    return Picked("torch", model, compiled, spec, f"{what}, in PyTorch, {type(model).__name__}")


def network(spec: Train, columns: Sequence[Column], encoding: Encoding) -> Picked:
    """Make a small convolutional network for the one column of images that an encoding has."""
    by_name = {column.name: column for column in columns}
    return _network(spec, by_name[encoding.features[0].column], by_name[encoding.target], encoding.task)


def _network(spec: Train, image: Column, target: Column, task: str) -> Picked:
    import torch
    from torch import nn

    height, width, channels = image.shape
    classes = len(target.categories) if task == "classification" else 1
    if task == "classification" and target.type == FeatureType.BOOLEAN:
        classes = 2
    torch.manual_seed(spec.seed)
    layers: list[nn.Module] = []
    filters = _FILTERS
    while min(height, width) >= 4 and len(layers) < 16:
        # Normalised by batches (Ioffe and Szegedy 2015), it learns in far fewer epochs; the published graph has it in the weights.
        convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(filters), nn.ReLU(), nn.MaxPool2d(2)]
        channels, filters, height, width = filters, min(4 * _FILTERS, 2 * filters), height // 2, width // 2
    layers += [nn.Flatten(), nn.Dropout(_DROPPED), nn.Linear(channels * height * width, 128), nn.ReLU()]
    layers += [nn.Dropout(_DROPPED), nn.Linear(128, max(1, classes))]
    loss, metric = ("cross_entropy", "accuracy") if task == "classification" else ("mse", "mae")
    compiled = {"optimizer": "adam", "loss": loss, "metrics": [metric]}
    words = f"a network of {sum(isinstance(layer, nn.Conv2d) for layer in layers)} convolutions, in PyTorch"
    return Picked("torch", nn.Sequential(*layers), compiled, spec, words)


def text_learning(asked: Learning) -> Learning:
    """Return how a model of texts learns: where only its head does, at a rate for a head, unless another one was asked for."""
    head_alone = ALL_BUT_HEAD in asked.freeze and asked.unfreeze_after is None
    return (
        asked.model_copy(update={"learning_rate": _HEAD_RATE}) if head_alone and asked.learning_rate is None else asked
    )
