"""A class that a user wrote, at work: loaded, and what it returns checked. Only in a process of its own."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from leptonai.core.errors import FieldError, Invalid, LeptonError
from leptonai.core.signature import Signature, TensorSpec
from leptonai.core.stages import UNPACK, load
from leptonai.serving.predictor import Context

_NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip


class Written:
    """A class that a user wrote, see `serving.predictor.Predictor`."""

    def __init__(self, made: Any, signature: Signature):
        self._made = made
        self._signature = signature

    def predict(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Compute one batch: arrays by input name to arrays by output name, all as the signature says."""
        rows = len(next(iter(inputs.values())))
        return outputs(self._made.predict(dict(inputs)), rows, self._signature.outputs)

    def stream(self, inputs: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the pieces of the answer to one row."""
        row = {
            name: found[0].item() if isinstance(found[0], np.generic) else found[0] for name, found in inputs.items()
        }
        yield from self._made.stream(row)


def outputs(found: Any, rows: int, specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Return what a user's `predict` gave as the arrays that its class declares.

    It may give a dict of columns, a list of one dict for each row, or, of a single output, just its values. Raises
    `LeptonError` that says what does not fit: that is the class's fault, and not the caller's.
    """
    if isinstance(found, Sequence) and not isinstance(found, str) and found and isinstance(found[0], Mapping):
        found = {spec.name: [row.get(spec.name) for row in found] for spec in specs}
    if not isinstance(found, Mapping):
        if len(specs) != 1:
            raise LeptonError(f"predict must return a dict with the outputs {', '.join(spec.name for spec in specs)}")
        found = {specs[0].name: found}
    made = {}
    for spec in specs:
        if spec.name not in found:
            raise LeptonError(f"predict returned no output {spec.name!r}, which its class declares")
        made[spec.name] = _output(found[spec.name], rows, spec)
    return made


def _output(values: Any, rows: int, spec: TensorSpec) -> Any:
    kind = _NUMPY[spec.datatype]
    try:
        if hasattr(values, "detach"):  # a tensor of PyTorch
            values = values.detach().cpu().numpy()
        if kind is np.object_:
            made = np.empty(len(values), object)
            made[:] = [value if type(value) is str else str(value) for value in values]
        else:
            made = np.ascontiguousarray(values, kind)
    except (TypeError, ValueError, OverflowError):
        raise LeptonError(f"what predict returned as {spec.name!r} is not {spec.datatype} for each row") from None
    shape: tuple[int, ...] = (rows, *spec.shape[1:])
    if made.ndim == 2 and len(shape) == 1 and made.size == rows:  # (rows, 1)
        made = made.reshape(rows)
    if made.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, made.shape, strict=True)):
        raise LeptonError(f"predict returned {spec.name!r} of the shape {made.shape} for {rows} rows, not {shape}")
    return made


def open_written(code: bytes, about: Mapping[str, Any], files: Path, signature: Signature) -> Written:
    """Make the user's object and let it load what it needs."""
    here, there = tuple(about["python"]), sys.version_info[:2]
    if here != there:
        raise Invalid(
            f"its code was packed by Python {here[0]}.{here[1]} and its Site has {there[0]}.{there[1]}: publish it from there"
        )
    check_requirements(about.get("requirements") or ())
    sys.path.insert(0, str(files))  # modules may come as files
    made = load(UNPACK)(code)
    if isinstance(made, type):
        made = made()
    made.load(Context(files, dict(about.get("options") or {})))
    return Written(made, signature)


def check_requirements(wanted: Iterable[str]) -> None:
    """Raise `Invalid` that names each library that is missing here, or of another version than the class asks for."""
    from packaging.requirements import InvalidRequirement, Requirement

    wrong = []
    for text in wanted:
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            wrong.append(FieldError(text, "is no requirement such as 'transformers>=4.40'"))
            continue
        if asked.marker is not None and not asked.marker.evaluate():
            continue
        try:
            found = metadata.version(asked.name)
        except metadata.PackageNotFoundError:
            wrong.append(FieldError(text, "is not installed at the Site"))
            continue
        if not asked.specifier.contains(found, prereleases=True):
            wrong.append(FieldError(text, f"is wanted, and the Site has {found}"))
    if wrong:
        said = "; ".join(f"{one.field} {one.message}" for one in wrong)
        raise Invalid(f"its requirements are not met: {said}; install them where the agent runs", errors=wrong)
