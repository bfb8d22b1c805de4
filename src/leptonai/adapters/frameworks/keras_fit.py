"""Whether a Keras model fits its data, said in words: what it takes, what it is given."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leptonai.adapters.frameworks.shapes import a_row
from leptonai.core.errors import FieldError, Invalid, LeptonError


def check_input(model: Any, shape: Sequence[int], inputs: Sequence[str]) -> None:
    """Raise `Invalid` where a built model takes several `inputs`, or rows of another shape than the only one has."""
    if inputs:
        said = ", ".join(f"{name!r}: […]" for name in inputs)
        raise Invalid(
            f"the model takes {len(inputs)} inputs, {', '.join(inputs)}: say which columns are in each, with inputs={{{said}}}",
            errors=[FieldError("inputs", "the columns of each input")],
        )
    takes = getattr(model, "input_shape", None) if model.built else None
    if isinstance(takes, tuple):
        _check("the model", takes, shape)


def check_inputs(model: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise `Invalid` that names the input of a functional model that takes rows of another shape."""
    for tensor in getattr(model, "inputs", None) or ():
        if tensor.name in shapes:
            _check(f"the model's input {tensor.name!r}", tuple(tensor.shape), shapes[tensor.name])


def _check(who: str, takes: tuple[Any, ...], shape: Sequence[int]) -> None:
    if len(takes) != len(shape) or all(n in (None, have) for n, have in zip(takes[1:], shape[1:], strict=True)):
        return
    if len(takes) == 2:
        raise Invalid(f"{who} takes {takes[1]} features, and the data gives {shape[1]}")
    raise Invalid(f"{who} takes rows of shape {a_row(takes)}, and the data gives {a_row(shape)}")


def one_output(output: Any, names: Sequence[str]) -> Any:
    """Return the only output. Raises `Invalid` where a model gives several, or something else than an array."""
    if isinstance(output, (list, tuple, dict)):
        known = list(output) if isinstance(output, dict) else names if len(names) == len(output) else ()
        said = f", {', '.join(map(str, known))}," if known else ""
        raise Invalid(
            f"the model gives {len(output)} outputs{said} and there is one target: name a target for each, with target=[…]",
            errors=[FieldError("target", "one for each output")],
        )
    return output


def row_of(x: Any) -> str:
    """Return the shape of one row, in words; of several inputs that of each."""
    if x.dtype.names is None:
        return a_row(np.shape(x))
    return ", ".join(f"{name} {a_row(x[name].shape)}" for name in x.dtype.names)


class refused:  # noqa: N801  (used like a function)
    """Turn what a model raises on its first batch into `Invalid`. `row`: the shape of a row in words; `features`: how many, of a table."""

    def __init__(self, row: str, features: int | None = None):
        self.row, self.features = row, features

    @classmethod
    def of(cls, x: Any) -> "refused":
        """Return the same for this batch."""
        shape = np.shape(x)
        return cls(row_of(x), shape[1] if len(shape) == 2 else None)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, (LeptonError, MemoryError)):
            return
        text = re.sub(r"\x1b\[\d+m", "", str(error))
        text = text.split("Arguments received by")[0]
        text = " ".join(re.sub(r"Exception encountered when calling [^\n]*\n", "", text).split())
        wants = re.search(r"expected axis -1 of input shape to have value (\d+)", text)
        if wants and self.features is not None:
            raise Invalid(
                f"the model takes {wants[1]} features, and the data gives {self.features}",
                errors=[FieldError("model", text)],
            ) from error
        raise Invalid(
            f"the model cannot take rows of shape {self.row}: {text}", errors=[FieldError("model", text)]
        ) from error
