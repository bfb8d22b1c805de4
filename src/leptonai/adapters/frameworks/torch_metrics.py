"""Metrics that are added up batch by batch, in float64, on the device of the model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from leptonai.adapters.frameworks import torch_library_metrics
from leptonai.adapters.frameworks.packing import unknown
from leptonai.adapters.frameworks.torch_library_metrics import LibraryMetric
from leptonai.core.errors import FieldError, Invalid

Tensor = torch.Tensor
Sums = Tensor  # float64, what a metric adds up

_SHORT = {
    "acc": "accuracy",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "root_mean_squared_error": "rmse",
    "r2_score": "r2",
    "f1_score": "f1",
}


def _means(output: Tensor, y: Tensor, classes: int, sigmoid: bool) -> Tensor:  # noqa: ARG001  (one shape for all)
    error = (output - y).double()
    return torch.stack([torch.tensor(float(error.numel())), error.abs().sum().cpu(), error.square().sum().cpu()])


def _spread(output: Tensor, y: Tensor, classes: int, sigmoid: bool) -> Tensor:  # noqa: ARG001
    y = y.double().expand_as(output)
    return torch.stack(
        [torch.tensor(float(y.numel())), y.sum().cpu(), y.square().sum().cpu(), (output - y).square().sum().cpu()]
    )


def _predicted(output: Tensor, sigmoid: bool) -> Tensor:
    if output.dim() > 1 and output.shape[-1] > 1:
        return output.argmax(-1)
    return (output.reshape(-1) > (0.0 if sigmoid else 0.5)).long()


def _right(output: Tensor, y: Tensor, classes: int, sigmoid: bool) -> Tensor:  # noqa: ARG001
    return torch.tensor([len(y), int((_predicted(output, sigmoid) == y).sum())], dtype=torch.float64)


def _table(output: Tensor, y: Tensor, classes: int, sigmoid: bool) -> Tensor:
    return torch.bincount(y * classes + _predicted(output, sigmoid), minlength=classes * classes).double().cpu()


def _macro(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    table = sums.reshape(round(len(sums) ** 0.5), -1)
    right, predicted, true = table.diag(), table.sum(0), table.sum(1)
    precision = right / predicted.clamp(min=1)
    recall = right / true.clamp(min=1)
    f1 = 2 * right / (predicted + true).clamp(min=1)
    return precision, recall, f1


Add = Callable[[Tensor, Tensor, int, bool], Tensor]
_CLASSES: dict[str, tuple[Add, Callable[[Sums], Tensor]]] = {
    "accuracy": (_right, lambda s: s[1] / s[0]),
    "precision": (_table, lambda s: _macro(s)[0].mean()),
    "recall": (_table, lambda s: _macro(s)[1].mean()),
    "f1": (_table, lambda s: _macro(s)[2].mean()),
}
_VALUES: dict[str, tuple[Add, Callable[[Sums], Tensor]]] = {
    "mae": (_means, lambda s: s[1] / s[0]),
    "mse": (_means, lambda s: s[2] / s[0]),
    "rmse": (_means, lambda s: (s[2] / s[0]).sqrt()),
    "r2": (_spread, lambda s: 1 - s[3] / (s[2] - s[1].square() / s[0])),
}


def listed(given: Any) -> list[Any]:
    """Return metrics as a list, whether one, several, or those of each target were given."""
    if isinstance(given, Mapping):
        return [metric for each in given.values() for metric in listed(each)]
    return [given] if isinstance(given, str) or callable(given) else list(given or ())


def one_list(given: Any) -> list[Any]:
    """Return the metrics of a model of one target. Raises `Invalid` for those of several."""
    if isinstance(given, Mapping):
        raise Invalid(
            f"metrics: they are given by target ({', '.join(map(str, given))}), and the model has one: give a list",
            errors=[FieldError("metrics", "a list")],
        )
    return listed(given)


def suits(given: Any, task: str) -> bool:
    """Whether a metric that was given for all targets is one for a target of this task."""
    if not isinstance(given, str):
        return True
    name = _SHORT.get(given.lower(), given.lower())
    if name in _CLASSES or name in _VALUES:
        return name in (_CLASSES if task == "classification" else _VALUES)
    return torch_library_metrics.suits(name, task)


def check(given: Any) -> None:
    """Raise `Invalid` for a metric that is neither known by name nor callable."""
    for metric in listed(given):
        if isinstance(metric, str):
            if _SHORT.get(metric.lower(), metric.lower()) not in {*_CLASSES, *_VALUES, *torch_library_metrics.NAMES}:
                raise unknown("metric", metric, [*_CLASSES, *_VALUES, *torch_library_metrics.NAMES, *_SHORT])
        elif not callable(metric):
            raise Invalid(
                f"metrics: {metric!r} is neither a name nor a function of (output, target)",
                errors=[FieldError("metrics", "names, or callables")],
            )


def made(given: Any, task: str, classes: int, activation: str) -> "Metric | LibraryMetric":
    """Return what measures: sums of ours, which are quick, or a metric of torchmetrics."""
    if torch_library_metrics.owns(given) or (isinstance(given, str) and given.lower() in torch_library_metrics.NAMES):
        return LibraryMetric(given, task, classes)
    return Metric(given, task, classes, activation)


def of_metric(sums: Mapping[str, Any], number: int) -> dict[str, Tensor]:
    """Return what one metric keeps, of what all keep: under its number, with the names of its parts."""
    found = ((name[len(str(number)) :], value) for name, value in sums.items() if name.partition(".")[0] == str(number))
    return {part: torch.from_numpy(value.copy()) for part, value in found}


class Metric:
    """One metric under the name the user gave it. `sums` is its whole state."""

    def __init__(self, given: Any, task: str, classes: int, activation: str):
        self.name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
        self._classes, self._sigmoid = classes, activation == "sigmoid"
        self._given = given
        self._task = task
        if isinstance(given, str):
            known = _SHORT.get(given.lower(), given.lower())
            of_task = _CLASSES if task == "classification" and known in _CLASSES else _VALUES
            if known not in of_task:
                raise Invalid(
                    f"metric {given!r} is for classes, and the target is a number: use one of {', '.join(_VALUES)}"
                )
            self._by_class = of_task is _CLASSES
            self._add, self._result = of_task[known]
        self.sums: Sums | None = None

    def update(self, output: Tensor, y: Tensor, shaped: Tensor) -> None:
        """Add a batch. `y`: class numbers or values as they came; `shaped`: as the loss took them."""
        if isinstance(self._given, str):
            if not self._by_class and self._task == "classification" and shaped.shape != output.shape:
                shaped = torch.nn.functional.one_hot(shaped, output.shape[-1]).to(output.dtype)
            more = self._add(output, y if self._by_class else shaped, self._classes, self._sigmoid).double()
        else:
            value = torch.as_tensor(self._given(output, shaped)).detach().double().mean().cpu()
            more = torch.stack([torch.tensor(float(len(y))).double(), value * len(y)])
        self.sums = more if self.sums is None else self.sums + more

    def result(self) -> float:
        """Return the metric of all batches since `reset`."""
        if self.sums is None:
            return float("nan")
        if isinstance(self._given, str):
            return float(self._result(self.sums))
        return float(self.sums[1] / self.sums[0])

    def reset(self) -> None:
        """Forget the batches."""
        self.sums = None

    def kept(self) -> dict[str, Tensor]:
        """Return what it holds."""
        return {} if self.sums is None else {"": self.sums}

    def take(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """Hold what these held, together."""
        found = [part[""] for part in parts if part]
        self.sums = torch.stack(found).sum(0) if found else None
