"""PyTorch to ONNX: by the older tracer or by torch.export. Both leave the batch size open.

The tracer runs one batch and writes down what was computed: in 50 ms where torch.export takes seconds, and its files are
smaller and quicker to serve. But it writes down one way through an ``if`` that depends on values. It says so when that
may have happened; then torch.export, which refuses such models, is asked first.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import torch

from leptonai.adapters.frameworks.onnx_quiet import quiet
from leptonai.core.ports import Learner, Route

OPSET = 20  # the newest that the older tracer writes


def routes(learner: Learner, example: Any) -> Iterator[Route]:
    """Yield the ways to export a `torch.nn.Module`, best first. `example` is a batch of its inputs."""
    yield from module_routes(learner.model, example)


def module_routes(module: torch.nn.Module, example: Any) -> Iterator[Route]:
    """Yield the ways to export this module. Each build leaves it in the mode (train or eval) it was in."""
    yield Route("PyTorch's tracer, strict", lambda: by_tracer(module, example, strict=True))
    yield Route("torch.export", lambda: by_export(module, example))
    yield Route("PyTorch's tracer", lambda: by_tracer(module, example))


def by_export(module: torch.nn.Module, example: Any) -> bytes:
    """Export with torch.export; raises when the model fixes its batch size."""
    with _still(module), quiet():
        program = torch.onnx.export(
            module,
            (_batch(module, example),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=["x"],
            output_names=["y"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # noqa: S101  (None only with dynamo=False)
    return program.model_proto.SerializeToString()


def by_tracer(module: torch.nn.Module, example: Any, *, strict: bool = False) -> bytes:
    """Export by running one batch and writing down what was computed; `strict`: raise where that may lose a choice."""
    file = BytesIO()
    with _still(module), quiet(), _traceable():
        if strict:
            warnings.simplefilter("error", torch.jit.TracerWarning)
        torch.onnx.export(
            module,
            (_batch(module, example),),
            file,  # type: ignore[arg-type]  # the tracer writes to files in memory too
            dynamo=False,
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
            input_names=["x"],
            output_names=["y"],
            opset_version=OPSET,
        )
    return file.getvalue()


def _batch(module: torch.nn.Module, example: Any) -> torch.Tensor:
    """Return three rows: exporters take a batch of one for a constant."""
    rows = np.resize(example, (3, *np.shape(example)[1:]))
    where = next(iter(module.parameters()), torch.empty(0)).device
    return torch.from_numpy(np.ascontiguousarray(rows)).to(where)


@contextmanager
def _traceable() -> Iterator[None]:
    """Turn off a fused operator that ONNX does not have, and the graph that a failing tracer prints."""
    fast, printing = torch.backends.mha.get_fastpath_enabled(), torch._C._jit_is_onnx_log_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._jit_set_onnx_log_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._jit_set_onnx_log_enabled(printing)


@contextmanager
def _still(module: torch.nn.Module) -> Iterator[None]:
    """Hold the module in evaluation mode, without gradients."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
