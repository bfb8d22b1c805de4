"""Keras to ONNX, on whichever back end Keras runs here.

PyTorch: by the tracer or torch.export, as any `torch.nn.Module` (Keras' own exporter is that same tracer). TensorFlow:
by tf2onnx. JAX: by Keras' own exporter. Where all of them fail, the model is rebuilt on another back end that is
installed, in a process of its own, from its description and weights: no code travels, and no pickle.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np

from leptonai.adapters.frameworks.keras_fed import Fed
from leptonai.adapters.frameworks.onnx_quiet import quiet
from leptonai.core import settings
from leptonai.core.errors import Unsupported
from leptonai.core.ports import Learner, Route
from leptonai.core.several import Several

# what each back end needs to be installed to export
_NEEDS = {"torch": ("torch",), "tensorflow": ("tensorflow", "tf2onnx"), "jax": ("jax", "jax2onnx")}
_SECONDS = 600


def routes(learner: Learner, example: Any) -> Iterator[Route]:
    """Yield the ways to export a Keras model, best first. `example` is a batch of its inputs."""
    model: Any = getattr(learner, "net", learner.model)
    yield from here(model, example)
    for backend, needs in _NEEDS.items():
        if backend != keras.backend.backend() and all(find_spec(name) for name in needs):
            yield _rebuilt(model, example, backend)


def here(model: keras.Model, example: Any) -> Iterator[Route]:
    """Yield the ways to export on the back end that Keras runs on."""
    backend = keras.backend.backend()
    if backend == "torch":
        from leptonai.adapters.frameworks.keras_onnx_torch import module_of
        from leptonai.adapters.frameworks.torch_onnx import module_routes

        yield from module_routes(module_of(model), example)
        return
    if backend == "tensorflow" and find_spec("tf2onnx"):
        from leptonai.adapters.frameworks.keras_onnx_tensorflow import by_tf2onnx

        yield Route("tf2onnx", lambda: by_tf2onnx(model, example))
    yield Route("Keras' own exporter", lambda: by_keras(model, example))


def by_keras(model: keras.Model, example: Any) -> bytes:
    """Export with `model.export(format="onnx")`, which writes a file."""
    if isinstance(model, Fed):
        raise Unsupported("it is for one input and one output")
    spec = keras.InputSpec(shape=(None, *np.shape(example)[1:]), dtype=str(example.dtype))
    with TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "model.onnx"
        model.export(str(path), format="onnx", verbose=False, input_signature=[spec])
        return path.read_bytes()


def _rebuilt(model: keras.Model, example: Any, backend: str) -> Route:
    return Route(f"rebuilt on Keras with {backend}", lambda: by_rebuilding(model, example, backend))


def by_rebuilding(model: keras.Model, example: Any, backend: str) -> bytes:
    """Export in a process whose Keras runs on `backend`. Raises `Unsupported` with what that process said."""
    how = model.how if isinstance(model, Fed) else Several()
    model = model.module if isinstance(model, Fed) else model
    own = {type(layer).__name__ for layer in model._flatten_layers() if not type(layer).__module__.startswith("keras.")}
    if own:
        raise Unsupported(f"{', '.join(sorted(own))} is not of Keras, and no code travels to that process")
    with TemporaryDirectory() as folder:
        with quiet():
            model.save(Path(folder) / "model.keras")  # JSON and numbers
        (Path(folder) / "several.json").write_text(json.dumps(asdict(how)))
        np.save(Path(folder) / "example.npy", example[:8], allow_pickle=False)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "leptonai.adapters.frameworks.keras_rebuild", folder],
                env=settings.environment(KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3"),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Unsupported(f"rebuilding it on {backend} took more than {_SECONDS} seconds") from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise Unsupported(lines[-1] if lines else f"the process ended with code {done.returncode}")
        return (Path(folder) / "model.onnx").read_bytes()
