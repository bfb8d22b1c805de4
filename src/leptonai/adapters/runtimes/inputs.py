"""What a loaded model takes, checked before the library sees it: a library's own words seldom name what is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from leptonai.core.errors import FieldError, Invalid

FILE = "model.onnx"


class Input(NamedTuple):
    """One input of a model."""

    name: str
    dtype: Any
    shape: tuple[int | None, ...]  # None: any length
    plain: bool  # only the batch, which comes first, is of any length


def known(name: str, dtype: Any, shape: tuple[int | None, ...]) -> Input:
    """Return an input; text is of dtype object."""
    return Input(name, np.dtype(dtype), shape, shape[:1] == (None,) and None not in shape[1:])


def graph(files: Mapping[str, bytes]) -> bytes:
    """Return the ONNX file of a bundle. Raises `Invalid`."""
    if FILE not in files:
        raise Invalid(f"the bundle has no {FILE}: it has {', '.join(sorted(files)) or 'no file'}")
    return files[FILE]


def unloadable(reason: str) -> Invalid:
    """Return the error for a file that cannot be loaded."""
    return Invalid(f"{FILE} cannot be loaded: {reason}", errors=[FieldError(FILE, reason)])


def check(
    wanted: Mapping[str, Input], inputs: Mapping[str, Any], names: Sequence[str], outputs: Sequence[str]
) -> Sequence[str]:
    """Check a batch, and return the outputs to compute: those of `outputs`, else all `names`.

    Raises `Invalid` that names the input or output which does not fit.
    """
    if inputs.keys() != wanted.keys():
        for name in inputs.keys() - wanted.keys():
            raise _wrong("input", name, f"the model's inputs are {', '.join(wanted)}")
        raise _wrong("input", next(name for name in wanted if name not in inputs), "it is missing")
    for name, one in wanted.items():
        _check(one, inputs[name])
    for name in outputs:
        if name not in names:
            raise _wrong("output", name, f"the model's outputs are {', '.join(names)}")
    return outputs or names


def _check(one: Input, value: Any) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != one.dtype:
        found = value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
        raise _wrong("input", one.name, f"it must be an array of {one.dtype.name}, not {found}")
    if one.plain:
        fits = value.ndim == len(one.shape) and value.shape[1:] == one.shape[1:]
    else:
        fits = value.ndim == len(one.shape) and all(
            want in (None, got) for want, got in zip(one.shape, value.shape, strict=True)
        )
    if not fits:
        want = ", ".join("any" if d is None else str(d) for d in one.shape)
        raise _wrong("input", one.name, f"it must have the shape ({want}), not {value.shape}")
    if one.dtype.kind == "O" and not set(map(type, value.ravel())) <= {str}:
        raise _wrong("input", one.name, "it must hold text only")


def _wrong(kind: str, name: str, right: str) -> Invalid:
    return Invalid(f"{kind} {name!r}: {right}", errors=[FieldError(name, right)])
