"""What everybody learns: Fashion-MNIST's images (else digits) and a CNN; also read by the peers' own Python."""

from pathlib import Path
from typing import Any

import numpy as np

BATCH = 128
FOLDER = Path("/usr/share/datasets/fashion-mnist")


def load(folder: str) -> dict[str, np.ndarray]:
    """Return x, y and the held-out vx, vy: uint8 (rows, 28, 28), int64."""
    found = np.load(Path(folder) / "parts.npz")
    return {name: found[name] for name in ("x", "y", "vx", "vy")}


def floats(x: np.ndarray, last: bool = False) -> np.ndarray:
    """Return images as networks take them: float32 from 0 to 1, one channel, first or last."""
    found = x.astype("float32") / 255
    return found[..., None] if last else found[:, None]


def network() -> Any:
    """The CNN in PyTorch."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def accuracy(model: Any, data: dict[str, np.ndarray]) -> float:
    """Return the share of held-out images that a PyTorch network tells."""
    import torch

    model.eval()
    with torch.no_grad():
        found = [model(part).argmax(1) for part in torch.from_numpy(floats(data["vx"])).split(1000)]
    return float((torch.cat(found).numpy() == data["vy"]).mean())
