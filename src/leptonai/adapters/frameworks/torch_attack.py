"""Inputs of a PyTorch module changed, within a small distance, to where it errs most."""

from collections.abc import Callable

import torch

from leptonai.core.errors import FieldError, Unsupported
from leptonai.core.learning import Adversarial

Tensor = torch.Tensor


def attacked(
    x: Tensor, rule: Adversarial, bounds: tuple[float, float] | None, loss: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Return the batch with its first rows changed; they come in another order in each epoch.

    `loss` gives that of so many first rows for inputs in their place; `bounds`: what an input can be, None for any number.
    """
    many = max(1, round(rule.share * len(x)))
    clean = x[:many].detach()
    changed = clean.clone()
    steps, size = 1, rule.epsilon
    if rule.method == "pgd":
        steps, size = rule.steps, rule.step_size or 2.5 * rule.epsilon / rule.steps
        changed += torch.empty_like(clean).uniform_(-rule.epsilon, rule.epsilon)
    for _ in range(steps):
        changed.requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(changed, many), changed)
        with torch.no_grad():
            changed = changed + size * slope.sign()
            changed = torch.minimum(torch.maximum(changed, clean - rule.epsilon), clean + rule.epsilon)
            if bounds is not None:
                changed = changed.clamp(*bounds)
    return torch.cat([changed.detach(), x[many:]])


def check(x: Tensor) -> None:
    """Raise `Unsupported` for inputs that cannot be changed by small parts."""
    if not x.is_floating_point():
        raise Unsupported(
            "adversarial changes numbers by small parts, and the model begins with an embedding, which takes whole numbers",
            errors=[FieldError("learning.adversarial", "not with an embedding")],
        )
