"""Libraries that set environment variables when they are first used; a module's tests use them before the watch begins.

``pytestmark = pytest.mark.usefixtures("warm", "here")`` in a module, or ``libraries()`` in a fixture of module scope, with autouse.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from leptonai.core import settings


def libraries() -> None:
    """Use PyTorch, scikit-learn, TensorBoard's file and Keras once."""
    import sklearn.ensemble  # noqa: F401
    import tensorboardX.record_writer  # noqa: F401
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter])
    parameter.sum().backward()
    optimizer.step()
    torch.set_num_threads(1)  # two spinning threads for each of several test processes starve each other
    keras_here()


def keras_here() -> Any:
    """Return Keras on PyTorch, unless something else was chosen before it was first imported."""
    if "keras" not in sys.modules:
        before = settings.variable("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = before or "torch"
        import keras

        if before is None:
            del os.environ["KERAS_BACKEND"]
        return keras
    return sys.modules["keras"]


@pytest.fixture(scope="module")
def warm() -> None:
    """Use the libraries once, before the watch over a module's tests begins."""
    libraries()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the test's own folder: what a Run writes beside itself is left there."""
    monkeypatch.chdir(tmp_path)
