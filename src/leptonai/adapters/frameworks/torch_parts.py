"""Optimisers and losses of PyTorch, by name or as objects; and what a loss wants its targets to look like."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from leptonai.adapters.frameworks.packing import unknown
from leptonai.core.errors import FieldError, Invalid, Unsupported

Kind = Literal["index", "binary", "value", "custom"]
Make = Callable[[Any], torch.optim.Optimizer]

_NEEDS_MORE = ("LBFGS",)  # its step wants a closure that computes the loss again


def optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Return the optimisers by lower-case name."""
    found = {name: getattr(torch.optim, name) for name in dir(torch.optim)}
    return {
        name.lower(): kind
        for name, kind in found.items()
        if isinstance(kind, type)
        and issubclass(kind, torch.optim.Optimizer)
        and kind is not torch.optim.Optimizer
        and name not in _NEEDS_MORE
    }


class OptimizerRecipe(NamedTuple):
    """How to make the optimiser inside the Run: `make(parameters, **options)`. Travels with the model."""

    make: Any
    options: dict[str, Any]

    def build(self, module: nn.Module, groups: list[dict[str, Any]] | None = None) -> torch.optim.Optimizer:
        """Make the optimiser for the module's parameters, in groups where those are given. Raises `Invalid`."""
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise Invalid("the model has no parameter to train")
        made = self.make(groups or parameters, **_fused(self.make, self.options, parameters))
        if not isinstance(made, torch.optim.Optimizer):
            raise Invalid(
                f"optimizer: {self.make!r} gave a {type(made).__name__}; it must return a torch.optim.Optimizer"
            )
        return made


_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)  # whose step is one kernel for all parameters


def _fused(make: Any, options: Mapping[str, Any], parameters: list[nn.Parameter]) -> Mapping[str, Any]:
    """Ask for the quick step where the user said nothing of how it is computed."""
    said = any(options.get(name) for name in ("fused", "foreach", "capturable", "differentiable"))
    fits = all(p.device.type in ("cpu", "cuda") and p.dtype is torch.float32 for p in parameters)
    return {**options, "fused": True} if make in _FUSED and fits and not said else options


def optimizer(given: object) -> OptimizerRecipe:
    """Return the recipe of an optimiser: a name, a class, an instance, or a callable that takes the parameters."""
    if given is None:
        given = "adam"
    if isinstance(given, str):
        known = optimizers()
        if given.lower() not in known:
            raise unknown("optimizer", given, known)
        return OptimizerRecipe(known[given.lower()], {})
    if isinstance(given, torch.optim.Optimizer):
        return _like(given)
    if callable(given):
        if getattr(given, "__name__", "") in _NEEDS_MORE:
            raise Unsupported(f"optimizer: {given!r} computes the loss several times a step, which fit does not do")
        return OptimizerRecipe(given, {})
    raise Invalid(
        f"optimizer: {given!r} is neither a name, a torch.optim.Optimizer, nor a callable that takes the parameters",
        errors=[FieldError("optimizer", "a name such as 'adam', or an optimiser")],
    )


def _like(given: torch.optim.Optimizer) -> OptimizerRecipe:
    if type(given).__name__ in _NEEDS_MORE:
        raise Unsupported(f"optimizer: {type(given).__name__} computes the loss several times a step")
    if len(given.param_groups) > 1:
        raise Unsupported(
            "optimizer: the given one has several groups of parameters, which cannot be found again in the Run; "
            "give a function that takes the parameters and returns the optimiser"
        )
    group = given.param_groups[0]
    options = {name: group[name] for name in given.defaults if name in group}
    return OptimizerRecipe(type(given), {k: v for k, v in options.items() if _is_argument(type(given), k)})


def _is_argument(kind: type, name: str) -> bool:
    import inspect

    parameters = inspect.signature(kind).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


_LOSSES: dict[str, tuple[type[nn.Module], Kind]] = {
    "cross_entropy": (nn.CrossEntropyLoss, "index"),
    "nll_loss": (nn.NLLLoss, "index"),
    "multi_margin_loss": (nn.MultiMarginLoss, "index"),
    "binary_cross_entropy": (nn.BCELoss, "binary"),
    "binary_cross_entropy_with_logits": (nn.BCEWithLogitsLoss, "binary"),
    "mse_loss": (nn.MSELoss, "value"),
    "l1_loss": (nn.L1Loss, "value"),
    "smooth_l1_loss": (nn.SmoothL1Loss, "value"),
    "huber_loss": (nn.HuberLoss, "value"),
    "poisson_nll_loss": (nn.PoissonNLLLoss, "value"),
}
_SHORT = {
    "crossentropy": "cross_entropy", "ce": "cross_entropy", "nll": "nll_loss", "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits", "mse": "mse_loss", "mean_squared_error": "mse_loss",
    "mae": "l1_loss", "mean_absolute_error": "l1_loss", "l1": "l1_loss", "smooth_l1": "smooth_l1_loss",
    "huber": "huber_loss", "poisson_nll": "poisson_nll_loss",
}  # fmt: skip
_SHORT |= {kind.__name__.lower(): name for name, (kind, _) in _LOSSES.items()}


class Loss(NamedTuple):
    """A loss, and the kind of targets it takes.

    index: int64 class numbers (batch,) · binary: float32 0 or 1, shaped as the output, one-hot for several outputs ·
    value: float32 shaped as the output · custom: int64 (batch,) for classes, float32 shaped as the output for values.
    """

    compute: Any
    kind: Kind
    activation: str | None  # None: told from the model's last layer


def loss(given: object) -> Loss | None:
    """Return the loss of a name, a module or a function; None where none was given. Raises `Invalid`."""
    if given is None:
        return None
    if isinstance(given, str):
        name = _SHORT.get(given.lower(), given.lower())
        if name not in _LOSSES:
            raise unknown("loss", given, [*_LOSSES, *_SHORT])
        kind, targets = _LOSSES[name]
        return Loss(kind(), targets, _activation(kind))
    if isinstance(given, type) and issubclass(given, nn.Module):
        given = given()
    for name, (kind, targets) in _LOSSES.items():
        if isinstance(given, kind) or given is getattr(functional, name):
            return Loss(given, targets, _activation(kind))
    if callable(given):
        return Loss(given, "custom", None)
    raise Invalid(
        f"loss: {given!r} is neither a name, a module, nor a function of (output, target)",
        errors=[FieldError("loss", f"a name such as {', '.join(_LOSSES)}, or a callable")],
    )


AnyLoss = Loss | None | dict[str, "Loss | None"] | list["Loss | None"]


def losses(given: object) -> AnyLoss:
    """Return the loss that was given; of several targets by their names, or in their order. Raises `Invalid`."""
    if isinstance(given, Mapping):
        return {str(name): loss(each) for name, each in given.items()}
    return [loss(each) for each in given] if isinstance(given, (list, tuple)) else loss(given)


def one_loss(found: AnyLoss) -> Loss | None:
    """Return the loss of a model of one target. Raises `Invalid` for those of several."""
    if found is None or isinstance(found, Loss):
        return found
    raise Invalid(
        "loss: several are given, and the model has one target: give one, or name several with target=[…]",
        errors=[FieldError("loss", "one")],
    )


def default_loss(task: str, outputs: int) -> Loss:
    """Return what is used where `compile` named no loss: by the task and the number of values a row."""
    name = "mse" if task == "regression" else "bce_with_logits" if outputs == 1 else "cross_entropy"
    made = loss(name)
    assert made is not None  # noqa: S101  (the name is one of ours)
    return made


def _activation(kind: type[nn.Module]) -> str | None:
    if issubclass(kind, (nn.CrossEntropyLoss, nn.NLLLoss)):
        return "softmax"  # NLL takes log-probabilities, and softmax(log p) = p
    if issubclass(kind, nn.BCEWithLogitsLoss):
        return "sigmoid"
    return "none" if issubclass(kind, nn.BCELoss) else None


def last_activation(module: nn.Module, outputs: int) -> str:
    """Tell from the last layer what turns the outputs of a classifier into probabilities."""
    leaves = [part for part in module.modules() if not list(part.children())]
    last = leaves[-1] if leaves else module
    if isinstance(last, (nn.Softmax, nn.Sigmoid)):
        return "none"
    return "sigmoid" if outputs == 1 and not isinstance(last, nn.LogSoftmax) else "softmax"


def takes_shares(found: Loss) -> bool:
    """Whether a loss takes shares of classes, floats (batch, classes), in place of class numbers."""
    entropy = isinstance(found.compute, nn.CrossEntropyLoss) and found.compute.ignore_index < 0
    return found.kind in ("binary", "value") or entropy or found.compute is functional.cross_entropy


def targets(found: Loss, task: str, y: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Shape and type the targets as the loss takes them. `y`: int64 (batch,) class numbers, or float32 values.

    A value for each row and several values from the model (a layer applied to every column, say): each is compared with
    the row's target, as Keras does it.
    """
    if task == "classification":
        if y.dim() == 2:  # shares of classes
            several = output.dim() > 1 and output.shape[-1] > 1
            return y.to(output.dtype) if several else y[:, 1].to(output.dtype).reshape(output.shape)
        if found.kind in ("index", "custom"):
            return y
        if output.dim() > 1 and output.shape[-1] > 1:
            return functional.one_hot(y, output.shape[-1]).to(output.dtype)
        return y.to(output.dtype).reshape(output.shape)
    if found.kind == "index":
        raise Invalid("the loss is for classes, and the target is a number: use a loss such as 'mse'")
    if y.numel() == output.numel():
        return y.to(output.dtype).reshape(output.shape)
    return y.to(output.dtype).reshape(len(y), *(1,) * (output.dim() - 1)).expand_as(output)


def inputs(module: nn.Module) -> list[str]:
    """Return the names of what `forward` must be given."""
    import inspect

    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    given = inspect.signature(module.forward).parameters.values()
    return [one.name for one in given if one.kind in kinds and one.default is one.empty]


def check_options(compiled: Mapping[str, Any]) -> None:
    """Raise `Invalid` for what `compile` was given and nobody here reads."""
    for name in compiled:
        if name not in ("optimizer", "loss", "metrics"):
            raise Invalid(
                f"compile: {name!r} is not known for PyTorch", errors=[FieldError(name, "optimizer, loss or metrics")]
            )
