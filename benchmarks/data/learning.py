"""The CNN of the training benchmark, an epoch at a time: on tensors in memory, and on encrypted, shuffled, augmented batches."""

import time
from typing import Any

import numpy as np
import torch
from torch import nn

ROWS, SIZE = 12_800, 128


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


class Learning:
    """One network and its optimiser; each way of feeding it takes an epoch in turn."""

    def __init__(self) -> None:
        self.model, self.loss = network(), nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def step(self, x: Any, y: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.model(x), y).backward()
        self.optimizer.step()

    def memory(self, x: Any, y: Any) -> float:
        """Return the seconds of an epoch over float32 tensors, gathered by a permutation.

        They lie as the store's batches do, channels last: the convolutions are quicker so, and that is not to be compared.
        """
        began = time.perf_counter()
        order = torch.randperm(len(x))
        for at in range(0, len(x), SIZE):
            rows = order[at : at + SIZE]
            self.step(x[rows].permute(0, 3, 1, 2), y[rows])
        return time.perf_counter() - began

    def store(self, batches: Any) -> float:
        """Return the seconds of an epoch over `dataset.torch()`; half of the images of each batch are mirrored."""
        began = time.perf_counter()
        for batch in batches:
            x = batch["x"].permute(0, 3, 1, 2).float().div_(255)
            mirrored = torch.rand(len(x)) < 0.5
            self.step(torch.where(mirrored[:, None, None, None], x.flip(3), x), batch["y"])
        return time.perf_counter() - began


def floats(x: np.ndarray) -> Any:
    """Return images as tensors, rows x height x width x channels."""
    return torch.from_numpy(x[:ROWS, ..., None].astype("float32") / 255)
