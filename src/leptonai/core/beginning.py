"""What a Learner is told of the weights that it begins with: those of another model, or of a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leptonai.core.errors import FieldError, Invalid

BASE = "base"  # how the names of a bundle's files begin whose weights those of LoRA stand beside


@dataclass(frozen=True)
class Beginning:
    """Weights that come from elsewhere, told before a Learner begins. The last layer of a model is its head."""

    weights: tuple[bytes, ...]  # files in the format safetensors, which carries no code
    source: str  # what messages call them
    head: bool = True  # take the head over too, where its shape is the same
    fit_head: bool = False  # make a new head where the target needs other outputs: the architecture was taken over too


def unlike(source: str, wrong: Sequence[tuple[str, Any, Any]]) -> Invalid:
    """Return the error for weights of another shape: (name, the model's shape, the file's) each."""
    name, ours, theirs = wrong[0]
    more = f", and {len(wrong) - 1} more do not fit" if len(wrong) > 1 else ""
    return Invalid(
        f"pretrained: {name} has shape {_shape(ours)} in the model and {_shape(theirs)} in {source}{more}: only the last layer may "
        "differ, take a model of the same architecture",
        errors=[FieldError(name, f"shape {_shape(theirs)}") for name, _, theirs in wrong[:20]],
    )


def lacking(source: str, missing: Sequence[str], total: int) -> Invalid:
    """Return the error for weights of the model that a file does not have."""
    shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    return Invalid(
        f"pretrained: {len(missing)} of the model's {total} weights are missing in {source}, such as {shown}: take a model of the same "
        "architecture; only layers behind those it has may be new",
        errors=[FieldError(name, "missing") for name in missing[:20]],
    )


def strangers(source: str, theirs: Sequence[str], ours: Sequence[str]) -> Invalid:
    """Return the error for a file none of whose names is one of the model's."""
    return Invalid(
        f"pretrained: none of the {len(theirs)} weights of {source} is one of the model's {len(ours)}: it has "
        f"{', '.join(theirs[:3])}, …, and the model {', '.join(ours[:3])}, …",
        errors=[FieldError("pretrained", "weights of the same architecture")],
    )


def unreadable(source: str) -> Invalid:
    """Return the error for bytes that are no safetensors file."""
    return Invalid(
        f"pretrained: {source} cannot be read as safetensors: it is cut short, or another format",
        errors=[FieldError("pretrained", "a file in the format safetensors")],
    )


def _shape(shape: Any) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
