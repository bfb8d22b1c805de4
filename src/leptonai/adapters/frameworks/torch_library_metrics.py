"""Metrics of torchmetrics, by name or as objects: those that need more than sums, such as areas under curves."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from leptonai.core.errors import FieldError, Invalid, MissingExtra

Tensor = torch.Tensor

# name -> its class in torchmetrics, and what it is made with beside the task
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "auroc": ("AUROC", {}),
    "average_precision": ("AveragePrecision", {}),
    "balanced_accuracy": ("Recall", {"average": "macro"}),
    "calibration_error": ("CalibrationError", {}),
    "cohen_kappa": ("CohenKappa", {}),
    "jaccard": ("JaccardIndex", {}),
    "matthews": ("MatthewsCorrCoef", {}),
    "specificity": ("Specificity", {"average": "macro"}),
}
_VALUES = {
    "explained_variance": "ExplainedVariance",
    "mape": "MeanAbsolutePercentageError",
    "pearson": "PearsonCorrCoef",
    "smape": "SymmetricMeanAbsolutePercentageError",
    "spearman": "SpearmanCorrCoef",
}
NAMES = (*_CLASSES, *_VALUES)


def suits(name: str, task: str) -> bool:
    """Whether one of these names is that of a metric for a target of this task."""
    return name in (_CLASSES if task == "classification" else _VALUES)


def owns(metric: object) -> bool:
    """Whether it is a metric of torchmetrics, which is not imported to say so."""
    return any(kind.__module__ == "torchmetrics.metric" and kind.__name__ == "Metric" for kind in type(metric).__mro__)


class LibraryMetric:
    """One of them under the name the user gave it; see `torch_metrics.Metric`. What it holds is kept in checkpoints."""

    def __init__(self, given: Any, task: str, classes: int):
        self._task = task
        if isinstance(given, str):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it keeps all scores
                self.name, self._metric = given, _made(given.lower(), task, classes)
        else:
            self.name, self._metric = type(given).__name__, copy.deepcopy(given)
        self._metric.reset()

    def update(self, output: Tensor, y: Tensor, shaped: Tensor) -> None:
        """Add a batch: scores as the model gives them, with class numbers or values."""
        output, y, shaped = output.detach().float().cpu(), y.cpu(), shaped.cpu()
        if self._task != "classification":
            self._metric.update(output.reshape(-1), shaped.float().reshape(-1))
        elif output.dim() > 1 and output.shape[-1] > 1:
            two = getattr(self._metric, "task", None) == "binary" or "Binary" in type(self._metric).__name__
            self._metric.update(output.softmax(-1)[:, 1] if two else output, y)
        else:
            self._metric.update(output.reshape(-1), y)

    def result(self) -> float:
        """Return the metric of all batches since `reset`."""
        if not self._metric.update_called:
            return float("nan")
        return float(torch.as_tensor(self._metric.compute()).double().mean())

    def reset(self) -> None:
        """Forget the batches."""
        self._metric.reset()

    def kept(self) -> dict[str, Tensor]:
        """Return what it holds."""
        if not self._metric.update_called:
            return {}
        found = {name: getattr(self._metric, name) for name in self._metric._defaults}
        return {f".{name}": torch.cat(value) if isinstance(value, list) else value for name, value in found.items()}

    def take(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """Hold what these held, together."""
        self._metric.reset()
        some = [part for part in parts if part]
        if not some:
            return
        for name, start in self._metric._defaults.items():
            values = [part[f".{name}"] for part in some]
            if isinstance(start, list):
                setattr(self._metric, name, values)
            elif len(values) == 1:
                setattr(self._metric, name, values[0])
            else:
                setattr(self._metric, name, _reduced(self._metric._reductions[name], values, self.name))
        self._metric._update_count = len(some)


def _reduced(reduce: Callable[[Tensor], Tensor] | None, values: list[Tensor], name: str) -> Tensor:
    if reduce is None:
        raise Invalid(
            f"metric {name!r} cannot be put together from several processes: leave workers out, or the metric",
            errors=[FieldError("metrics", "one that adds up")],
        )
    return reduce(torch.stack(values))


def _made(name: str, task: str, classes: int) -> Any:
    try:
        import torchmetrics
    except ImportError as error:
        raise MissingExtra(f"metric {name!r} needs torchmetrics:  pip install 'lepton-ai-sdk[torch]'") from error
    if task == "classification" and name in _CLASSES:
        kind, options = _CLASSES[name]
        two = classes == 2 and name != "balanced_accuracy"
        if two:
            options = {}
        return getattr(torchmetrics, kind)(task="binary" if two else "multiclass", num_classes=classes, **options)
    if task != "classification" and name in _VALUES:
        return getattr(torchmetrics, _VALUES[name])()
    fit = ", ".join(_CLASSES if task == "classification" else _VALUES)
    raise Invalid(
        f"metric {name!r} does not suit a target of {task}: use one of {fit}",
        errors=[FieldError("metrics", f"one of {fit}")],
    )
