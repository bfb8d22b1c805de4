"""The model that every product serves: a small CNN for 28 x 28 images, as a torch module and as one ONNX file."""

import io
from pathlib import Path

import numpy as np
import torch
from spine import fashion
from torch import nn

CLASSES = 10
PARAMETERS = 220_234


def network() -> nn.Module:
    """Return the CNN, untrained: float32 (n, 1, 28, 28), pixels from 0 to 1, to (n, 10) scores."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def images(rows: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return float32 images (rows, 1, 28, 28) from 0 to 1, their int64 classes, and where they come from."""
    x, y, source = fashion(rows)
    return (x.astype(np.float32) / 255).reshape(-1, 1, 28, 28), y, source


def export(model: nn.Module, path: Path) -> None:
    """Write the trained model as ONNX: `image` float32 (n, 1, 28, 28) to `scores` (n, 10), any n."""
    written = io.BytesIO()
    names = {"image": {0: "n"}, "scores": {0: "n"}}
    torch.onnx.export(
        model.eval(), (torch.zeros(1, 1, 28, 28),), written, dynamo=False,
        input_names=["image"], output_names=["scores"], dynamic_axes=names,
    )  # fmt: skip
    path.write_bytes(written.getvalue())
