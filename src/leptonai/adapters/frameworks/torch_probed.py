"""What gradients tell of a PyTorch module that has learnt: where it looks, and what a small change aimed at it does."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from leptonai.core.learning import Adversarial

Tensor = torch.Tensor


class Probed(ABC):
    """The part of a learner that is asked after it has learnt; `attribution` is told of pictures and of texts."""

    model: nn.Module

    def attribution(self, x: Any, of: Sequence[int] | None) -> Any:
        """Return what each place adds to the output of a class (`of`; None: to the value): see `torch_explain`.

        None where `x` is neither (pictures, channels, height, width) nor texts.
        """
        from leptonai.adapters.frameworks import torch_explain

        self._look()
        if getattr(self, "layout", "") == "text":
            texts = ["" if text is None else str(text) for text in np.asarray(x).tolist()]
            return torch_explain.of_texts(self.model, texts, self._input(x), of)
        if np.ndim(x) != 4:
            return None
        return torch_explain.of_pictures(self.model, self._input(x), of)

    def under_attack(
        self, x: Any, y: Any, rule: Adversarial, bounds: tuple[float, float] | None, activation: str
    ) -> Any:
        """Return `x` changed within the rule's distance to where the module errs most. Raises `Unsupported`.

        `y`: class numbers, or values; `activation`: what makes probabilities of the outputs, see `core.ports.Learner`.
        """
        from leptonai.adapters.frameworks import torch_attack

        self._look()
        clean = self._input(x)
        torch_attack.check(clean)
        torch.manual_seed(0)  # it begins at random places
        truth = torch.as_tensor(np.asarray(y)).to(clean.device)
        found = torch_attack.attacked(
            clean, rule, bounds, lambda changed, many: _loss(self.model(changed), truth[:many], activation)
        )
        return found.cpu().numpy()

    @abstractmethod
    def _look(self) -> None: ...

    @abstractmethod
    def _input(self, x: Any) -> Tensor: ...


def _loss(output: Tensor, truth: Tensor, activation: str) -> Tensor:
    flat = output.reshape(len(output), -1)
    if activation == "value":
        return functional.mse_loss(flat, truth.reshape(len(truth), -1).to(flat.dtype).expand_as(flat))
    if flat.shape[1] == 1:
        wanted = truth.to(flat.dtype)
        chance = flat[:, 0] if activation == "none" else torch.sigmoid(flat[:, 0])
        return functional.binary_cross_entropy(chance.clamp(1e-6, 1 - 1e-6), wanted)
    if activation == "softmax":
        return functional.cross_entropy(flat, truth)
    if activation == "sigmoid":
        flat = torch.sigmoid(flat)
    return functional.nll_loss(torch.log(flat.clamp(min=1e-6)), truth)
