"""Whether a PyTorch model fits its data, said in words: what it takes, what it is given."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from leptonai.adapters.frameworks.shapes import a_row
from leptonai.core.errors import FieldError, Invalid, LeptonError


@contextmanager
def refused(module: nn.Module | None, shape: Sequence[int] | str) -> Iterator[None]:
    """Turn what a model raises on its first batch into `Invalid` that names the layer and what it takes."""
    entered: list[tuple[str, nn.Module, Any]] = []
    hooks = [
        part.register_forward_pre_hook(_remember(entered, name))
        for name, part in (module.named_modules() if module is not None else ())
        if not list(part.children())
    ]
    try:
        yield
    except (LeptonError, MemoryError):
        raise
    except Exception as error:
        row = shape if isinstance(shape, str) else a_row(shape)
        raise Invalid(_words(error, entered, row), errors=[FieldError("model", str(error))]) from error
    finally:
        for hook in hooks:
            hook.remove()


def _remember(entered: list[tuple[str, nn.Module, Any]], name: str) -> Any:
    def hook(part: nn.Module, inputs: Any) -> None:
        given = getattr(inputs[0], "shape", None) if inputs else None
        entered.append((name, part, tuple(given) if given is not None else None))

    return hook


def rows_of(x: Any) -> str:
    """Return the shape of one row, in words; of several inputs that of each."""
    if x.dtype.names is None:
        return a_row(np.shape(x))
    return ", ".join(f"{name} {a_row(x[name].shape)}" for name in x.dtype.names)


def check_tensors(output: Any, *, many: bool) -> None:
    """Raise `TypeError` where a model gives something else than a tensor, or, by name, `many`."""
    for part in output.values() if many else [output]:
        if not isinstance(part, Tensor):
            raise TypeError(f"the model gives a {type(part).__name__}, where one tensor is needed")


def shapes_of(output: Any) -> str:
    """Return the shape of one row of a model's output, in words; of several outputs that of each."""
    if isinstance(output, Tensor):
        return a_row(tuple(output.shape))
    return ", ".join(f"{name} {a_row(tuple(part.shape))}" for name, part in output.items())


def detached(output: Any) -> Any:
    """Return a model's output, or the outputs by name, without what led to them."""
    return output.detach() if isinstance(output, Tensor) else {name: part.detach() for name, part in output.items()}


def _words(error: Exception, entered: list[tuple[str, nn.Module, Any]], row: str) -> str:
    short = " ".join(str(error).split())
    if not entered:
        return f"the model's loss cannot be computed for outputs of shape {row}: {short}"
    name, part, given = entered[-1]
    takes, has = _takes(part), _has(part, given)
    where = f"layer {name or 'model'!r}, {part},"
    if takes is not None and has is not None and takes != has and not _earlier_weights(entered):
        return (
            f"the model takes {takes} {_noun(part)}, and the data gives {has}: {where} does not fit rows of shape {row}"
        )
    if takes is not None and has is not None and takes != has:
        return f"the model does not fit rows of shape {row}: {where} takes {takes} {_noun(part)} and gets {has}"
    return f"the model cannot take rows of shape {row}: {where} fails with: {short}"


def _earlier_weights(entered: list[tuple[str, nn.Module, Any]]) -> bool:
    return any(next(part.parameters(recurse=False), None) is not None for _, part, _ in entered[:-1])


def _takes(part: nn.Module) -> int | None:
    for word in ("in_features", "in_channels", "input_size", "num_features"):
        found = getattr(part, word, None)
        if isinstance(found, int) and found > 0:
            return found
    return None


def _has(part: nn.Module, given: tuple[int, ...] | None) -> int | None:
    if given is None or len(given) < 2:
        return None
    return given[1] if hasattr(part, "in_channels") or hasattr(part, "num_features") else given[-1]


def _noun(part: nn.Module) -> str:
    return "channels" if hasattr(part, "in_channels") else "features"


@contextmanager
def mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Have a module learn, or not, for a while."""
    modes = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
