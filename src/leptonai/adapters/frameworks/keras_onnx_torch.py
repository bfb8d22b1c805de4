"""A Keras model on the PyTorch back end as a plain `torch.nn.Module`."""

from typing import Any

import keras
import torch

from leptonai.adapters.frameworks.keras_fed import Fed, in_order


class _Inference(torch.nn.Module):
    """Calls the model as in inference: `eval()` alone says nothing to Keras."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        return self.model(x, training=False)


class _InOrder(torch.nn.Module):
    """The same of several inputs or outputs, one after the other."""

    def __init__(self, fed: Fed):
        super().__init__()
        self.fed = fed
        self._compute = in_order(fed)

    def forward(self, *given: torch.Tensor) -> Any:
        return self._compute(*given)


def module_of(model: keras.Model) -> torch.nn.Module:
    """Return a module that computes what the model predicts."""
    return _InOrder(model) if isinstance(model, Fed) else _Inference(model)
