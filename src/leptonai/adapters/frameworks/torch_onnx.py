"""PyTorch to ONNX: by the older tracer or by torch.export. Both leave the batch size open.

The tracer runs one batch and writes down what was computed: in 50 ms where torch.export takes seconds, and its files are
smaller and quicker to serve. But it writes down one way through an ``if`` that depends on values, and says so when that
may have happened. Such a trace is refused: it would agree on the rows it is checked with and be wrong on others.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import BytesIO, StringIO
from pathlib import PurePath
from typing import Any, cast

import numpy as np
import torch

from leptonai.adapters.frameworks.onnx_quiet import quiet
from leptonai.core.errors import Unsupported
from leptonai.core.ports import Learner, Route
from leptonai.core.several import fields

_CHOOSER = "keras/src/backend/torch/core.py"  # ops.cond and ops.while_loop
OPSET = 20  # the newest that the older tracer writes


def routes(learner: Learner, example: Any) -> Iterator[Route]:
    """Yield the ways to export a `torch.nn.Module`, best first. `example` is a batch of its inputs."""
    module = cast(Any, learner).in_order() if hasattr(learner, "in_order") else learner.model
    yield from module_routes(module, example)


def module_routes(module: torch.nn.Module, example: Any) -> Iterator[Route]:
    """Yield the ways to export this module. Each build leaves it in the mode (train or eval) it was in."""
    yield Route("PyTorch's tracer", lambda: by_tracer(module, example))
    yield Route("torch.export", lambda: by_export(module, example))


def by_export(module: torch.nn.Module, example: Any) -> bytes:
    """Export with torch.export; raises when the model fixes its batch size."""
    with _still(module), quiet(), redirect_stderr(StringIO()):  # where it prints the graph that it could not finish
        try:
            program = torch.onnx.export(
                module,
                _batch(module, example),
                dynamo=True,
                dynamic_shapes=_open(module, example),
                input_names=_names(example),
                output_names=_outputs(module),
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:
            if any("data-dependent" in str(cause).lower() for cause in _causes(error)):
                raise Unsupported("the model chooses by values, and one graph cannot follow it") from None
            raise
    assert program is not None  # noqa: S101  (None only with dynamo=False)
    return bytes(program.model_proto.SerializeToString())


def by_tracer(module: torch.nn.Module, example: Any) -> bytes:
    """Export by running one batch and writing down what was computed. Raises `Unsupported` where that may lose a choice."""
    file = BytesIO()
    with _still(module), quiet(), _traceable(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            torch.onnx.export(
                module,
                _batch(module, example),
                file,  # type: ignore[arg-type]  # the tracer writes to files in memory too
                dynamo=False,
                dynamic_axes={name: {0: "batch"} for name in (*_names(example), *_outputs(module))},
                input_names=_names(example),
                output_names=_outputs(module),
                opset_version=OPSET,
            )
        except torch.onnx.errors.SymbolicValueError as error:
            raise Unsupported(str(error).partition(", scope:")[0]) from None  # what follows are lines of the libraries
    for warning in said:
        if _chooses(warning):
            where = f"{PurePath(warning.filename).name}, line {warning.lineno}"
            raise Unsupported(f"the model seems to choose by values ({where}), and a trace holds one way only")
    return file.getvalue()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _chooses(warning: warnings.WarningMessage) -> bool:
    """Whether a tracer's warning may be about values. Inside the libraries nearly all are about shapes, which are fixed."""
    if not issubclass(warning.category, torch.jit.TracerWarning):  # type: ignore[attr-defined]  # public all the same
        return False
    _, inside, path = PurePath(warning.filename).as_posix().rpartition("/site-packages/")
    if not inside or not path.startswith(("torch/", "keras/")):
        return True
    return path == _CHOOSER and "as_tensor" not in str(warning.message)


def _batch(module: torch.nn.Module, example: Any) -> tuple[torch.Tensor, ...]:
    """Return three rows of each input: exporters take a batch of one for a constant."""
    rows = np.resize(example, (3, *np.shape(example)[1:]))
    where = next(iter(module.parameters()), torch.empty(0)).device
    given = [rows] if rows.dtype.names is None else fields(rows).values()
    return tuple(torch.from_numpy(np.ascontiguousarray(one)).to(where) for one in given)


def _names(example: Any) -> list[str]:
    """Return names for the inputs: those of the columns come later, and may be anything."""
    names = np.asarray(example).dtype.names
    return ["x"] if names is None else [f"x{place}" for place in range(len(names))]


def _outputs(module: torch.nn.Module) -> list[str]:
    goals = getattr(getattr(getattr(module, "fed", None), "how", None), "goals", ())
    return [f"y{place}" for place in range(len(goals))] or ["y"]


def _open(module: torch.nn.Module, example: Any) -> tuple[Any, ...]:
    """Return that the batch size is open, in the form of the arguments of `forward`."""
    each = tuple({0: torch.export.Dim.DYNAMIC} for _ in _names(example))
    return (each,) if hasattr(module, "fed") else each


@contextmanager
def _traceable() -> Iterator[None]:
    """Turn off a fused operator that ONNX does not have, and the whole graph that a failing tracer prints."""
    fast, log = torch.backends.mha.get_fastpath_enabled(), torch._C._jit_onnx_log
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._jit_onnx_log = log


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
