"""A PyTorch module that takes several inputs, or predicts several targets, and learns inside a Run."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from leptonai.adapters.frameworks.by_target import check_goal, for_each, known, told_apart
from leptonai.adapters.frameworks.shapes import outputs
from leptonai.adapters.frameworks.torch_compute import Compute
from leptonai.adapters.frameworks.torch_learner import TorchLearner
from leptonai.adapters.frameworks.torch_library_metrics import LibraryMetric
from leptonai.adapters.frameworks.torch_metrics import Metric, listed, made, suits
from leptonai.adapters.frameworks.torch_parts import AnyLoss, Loss, OptimizerRecipe, default_loss, targets
from leptonai.adapters.frameworks.torch_tally import Tally
from leptonai.core.several import Goal, Several, packed

Tensor = torch.Tensor


class Fed(nn.Module):
    """A user's module, given its inputs by name, with its outputs told apart by target: a dict, or one tensor of one target.

    Whole numbers travel as floats beside others; a layer that looks them up gets them as whole numbers again.
    """

    def __init__(self, module: nn.Module, how: Several):
        super().__init__()
        self.module, self.how = module, how
        for part in module.modules() if how.inputs else ():
            if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
                part.register_forward_pre_hook(_as_numbers)

    def forward(self, x: Any) -> Any:
        """Return what the module gives for a tensor, or for a dict of them by input."""
        given = self.module(**x) if isinstance(x, dict) else self.module(x)
        return told_apart(given, self.how.goals) if self.how.goals else given


class InOrder(nn.Module):
    """The same with its inputs one after the other, and its outputs as a tuple: what exporters take."""

    def __init__(self, fed: Fed):
        super().__init__()
        self.fed = fed

    def forward(self, *given: Tensor) -> Any:
        """Return a tuple in the order of the targets, or one tensor."""
        names = self.fed.how.inputs
        found = self.fed(dict(zip(names, given, strict=True)) if names else given[0])
        return tuple(found.values()) if isinstance(found, dict) else found


def _as_numbers(part: nn.Module, given: tuple[Any, ...]) -> Any:  # noqa: ARG001  (what every hook is given)
    return (given[0].long(), *given[1:]) if given and given[0].is_floating_point() else given


class Wanted(NamedTuple):
    """Targets as the losses take them, and what these came to, by target."""

    targets: dict[str, Tensor]
    losses: dict[str, Tensor]


class OfGoal:
    """A metric of one target, under the target's name and its own."""

    def __init__(self, goal: str, metric: Metric | LibraryMetric):
        self.name, self._goal, self._metric = f"{goal}_{metric.name}", goal, metric
        self.result, self.reset, self.kept, self.take = metric.result, metric.reset, metric.kept, metric.take

    def update(self, output: Mapping[str, Tensor], y: Mapping[str, Tensor], shaped: Wanted) -> None:
        """Add a batch of all targets."""
        self._metric.update(output[self._goal], y[self._goal], shaped.targets[self._goal])


class LossOf(Metric):
    """The loss of one target, without its weight."""

    def __init__(self, goal: str):
        super().__init__(len, "", 0, "")
        self.name, self._goal = f"{goal}_loss", goal

    def update(self, output: Any, y: Any, shaped: Any) -> None:  # noqa: ARG002  (one shape for all)
        """Add a batch of all targets."""
        rows = len(y[self._goal])
        value = shaped.losses[self._goal].detach().double().cpu()
        more = torch.stack([torch.tensor(float(rows)).double(), value * rows])
        self.sums = more if self.sums is None else self.sums + more


class SeveralLearner(TorchLearner):
    """See `TorchLearner`; of several inputs `x`, of several targets `y` and what is predicted have a field for each."""

    def __init__(self, module: nn.Module, recipe: OptimizerRecipe, loss: AnyLoss, metrics: Any, how: Several):
        super().__init__(module, recipe, loss, metrics)
        self._how, self._net, self._many = how, Fed(module, how), bool(how.goals)
        self._given_loss, self._losses_of = loss, dict[str, Loss]()
        self.activations: dict[str, str] = {}  # by target
        self._compute = self._computing("auto")

    @property
    def input_dtype(self) -> str:
        """Whole numbers travel as floats beside others."""
        return "float32" if self._how.inputs else super().input_dtype

    @property
    def entries(self) -> int | None:
        """None with several inputs: which of them an embedding takes is not known."""
        return None if self._how.inputs else super().entries

    @property
    def paths(self) -> tuple[str, ...]:
        """One way only: the others are for one tensor."""
        return ("plain",)

    def compiled_path(self, path: str) -> str | None:  # noqa: ARG002  (of every path)
        """None: see `paths`."""
        return None

    def in_order(self) -> nn.Module:
        """Return what is exported."""
        return InOrder(self._net)

    def _computing(self, precision: str) -> Compute:
        return Compute(self._net, self.device, precision)

    def _run(self, x: Any) -> Any:
        if self._net.module is not self.model:
            self._net = Fed(self.model, self._how)
            self._compute = self._computing(self._asked.learning.precision)
        return self._net(x)

    def _input(self, x: Any) -> Any:
        if not self._how.inputs:
            return super()._input(x)
        return {name: self._tensor(np.ascontiguousarray(x[name])) for name in self._how.inputs}

    def _target(self, y: Any) -> Any:
        if not self._how.goals:
            return super()._target(y)
        return {goal.name: self._tensor(np.ascontiguousarray(y[goal.name])) for goal in self._how.goals}

    def _aim(self, output: Any, y: Any, task: str, classes: int) -> None:
        if not self._how.goals:
            super()._aim(output, y, task, classes)
            return
        self._task, self.activation = task, "value"
        given = for_each(self._given_loss, self._how.goals, "loss")
        metrics: list[Any] = []
        for goal in self._how.goals:
            one = output[goal.name]
            found = given[goal.name] or default_loss(goal.task, outputs(one.shape))
            check_goal(goal, tuple(one.shape), np.shape(y[goal.name]), found.kind)
            scores = found.activation or ("sigmoid" if outputs(one.shape) == 1 else "softmax")
            self._losses_of[goal.name] = found
            self.activations[goal.name] = scores if goal.task == "classification" else "value"
            metrics.append(LossOf(goal.name))
            metrics += [
                OfGoal(goal.name, made(metric, goal.task, goal.classes, self.activations[goal.name]))
                for metric in _metrics_of(self._given_metrics, goal, self._how.goals)
            ]
        self._tally = Tally(metrics)

    def _losses(self, output: Any, y: Any) -> tuple[Tensor, Any]:
        if not self._how.goals:
            return super()._losses(output, y)
        shaped, values = {}, {}
        for goal in self._how.goals:
            loss = self._losses_of[goal.name]
            shaped[goal.name] = targets(loss, goal.task, y[goal.name], output[goal.name])
            value = loss.compute(output[goal.name], shaped[goal.name])
            values[goal.name] = value if value.dim() == 0 else value.mean()
        whole = torch.stack([goal.weight * values[goal.name] for goal in self._how.goals]).sum()
        return whole, Wanted(shaped, values)

    def _learnt_from(self, output: Any, y: Any) -> tuple[Tensor, Any]:
        return self._losses(output, y) if self._how.goals else super()._learnt_from(output, y)

    def predict(self, x: Any) -> Any:
        """See the port. Of several targets: an array with a field for each."""
        if not self._how.goals:
            return super().predict(x)
        self._look()
        with torch.no_grad():
            return packed({name: part.float().cpu().numpy() for name, part in self._run(self._input(x)).items()})


def _metrics_of(given: Any, goal: Goal, goals: tuple[Goal, ...]) -> list[Any]:
    if not isinstance(given, Mapping):  # for all of them: those that are for such targets
        return [metric for metric in listed(given) if suits(metric, goal.task)]
    known(given, [other.name for other in goals], "metrics")
    return listed(given.get(goal.name))
