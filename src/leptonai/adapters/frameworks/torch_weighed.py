"""Losses of PyTorch with classes that weigh more or less, and with labels that are not taken for quite sure."""

import copy
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from leptonai.adapters.frameworks.torch_parts import Loss, takes_shares
from leptonai.core.errors import FieldError, Unsupported

Tensor = torch.Tensor


class Weighed:
    """A loss per row, times the weight of the row's class, over the rows. Raises `Unsupported` for a loss that has no rows."""

    def __init__(self, found: Loss, weights: tuple[float, ...], device: torch.device):
        self._compute = _by_row(found.compute)
        self._weights = torch.tensor(weights, dtype=torch.float32, device=device)

    def __call__(self, output: Tensor, shaped: Tensor, y: Tensor) -> Tensor:
        """`shaped`: the targets as the loss takes them; `y`: class numbers (batch,), or shares of classes (batch, classes)."""
        rows = self._compute(output, shaped)
        if rows.dim() == 0:
            raise Unsupported(
                "class_weights: a loss of your own gives one number for a batch: return one for each row, weigh the classes in it, "
                "or use balanced_sampling",
                errors=[FieldError("learning.class_weights", "a loss with a number for each row")],
            )
        rows = rows.reshape(len(rows), -1).mean(1)
        weights = self._weights[y] if y.dim() == 1 else y.to(self._weights.dtype) @ self._weights
        weighed: Tensor = (rows * weights).mean()
        return weighed


def _by_row(compute: Any) -> Any:
    if isinstance(compute, nn.Module) and hasattr(compute, "reduction"):
        compute = copy.deepcopy(compute)
        compute.reduction = "none"
        return compute
    own = getattr(functional, getattr(compute, "__name__", ""), None)
    return partial(compute, reduction="none") if own is not None and own is compute else compute


def smoothed(y: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return shares of classes (batch, classes), of which `smoothing` is spread over all (Szegedy et al. 2015, arXiv:1512.00567)."""
    shares = functional.one_hot(y, classes).float() if y.dim() == 1 else y
    return shares * (1 - smoothing) + smoothing / classes


def check_smoothing(found: Loss, task: str) -> None:
    """Raise `Unsupported` for a loss that takes no shares of classes."""
    if task != "classification" or not takes_shares(found):
        name = getattr(found.compute, "__name__", type(found.compute).__name__)
        raise Unsupported(
            f"label_smoothing: {name} takes no shares of classes: use cross_entropy or binary_cross_entropy_with_logits",
            errors=[FieldError("learning.label_smoothing", "a loss such as cross_entropy")],
        )
