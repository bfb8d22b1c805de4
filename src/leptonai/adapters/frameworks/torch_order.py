"""The same PyTorch network in an order that computes less: pooling before the ReLU that came before it.

The largest of a window is the same whether what is negative was set to 0 before or after, and so is where its gradient goes: outputs,
gradients and names of weights stay what they were, and the ReLU has a quarter of the numbers to look at.
"""

from itertools import pairwise

from torch import nn


def pool_first(module: nn.Module) -> None:
    """Have each plain `nn.Sequential` in the module compute so, where a ReLU stands right before a largest-of-window pooling."""
    for part in module.modules():
        if type(part) is not nn.Sequential or _watched(part):
            continue
        for at, after in pairwise(list(part._modules)):
            first, second = part._modules[at], part._modules[after]
            if type(first) is nn.ReLU and _pools(second) and not (_watched(first) or _watched(second)):
                part._modules[at], part._modules[after] = second, first


def _pools(part: nn.Module | None) -> bool:
    return isinstance(part, (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)) and not part.return_indices


def _watched(part: nn.Module | None) -> bool:
    """Whether somebody hooked on to what goes in or comes out of it."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(part, name, None) for name in hooks)
