"""A Keras model on the PyTorch back end as a plain `torch.nn.Module`."""

from typing import Any

import keras
import torch


class _Inference(torch.nn.Module):
    """Calls the model as in inference: `eval()` alone says nothing to Keras."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        return self.model(x, training=False)


def module_of(model: keras.Model) -> torch.nn.Module:
    """Return a module that computes what the model predicts."""
    return _Inference(model)
