"""What you ask of the registry."""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Frozen, Name


class SetAlias(Frozen):
    """Point an alias, such as ``champion``, at one version of a model."""

    alias: Name
    version: int = Field(ge=1)
    override: Annotated[str, Field(max_length=1000)] = ""  # why a version that does not keep the gate's rules is passed


class SetGate(Frozen):
    """Keep rules with the name of a model, see `evaluation.gate`."""

    rules: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(min_length=1, max_length=50)]
    aliases: Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)] = ("champion",)
    data: str | None = None  # only evaluations on this dataset count: a name, a version or a part of one


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ImportedFile(Frozen):
    """A file of a model that was made elsewhere: the blob that holds it, and what it must be."""

    blob: Digest
    sha256: Digest
    size: int = Field(ge=0, lt=2**62)


class ImportModel(Frozen):
    """Make a version of files that were uploaded before: weights and tokenisers, none of which carries code."""

    name: Name
    task: Literal["chat", "embedding"]
    files: dict[str, ImportedFile]
    aliases: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    note: Annotated[str, Field(max_length=1000)] = ""


FILES: dict[str, dict[str, bool]] = {
    "chat": {"model.gguf": True},
    "embedding": {
        "tokenizer.json": True, "config.json": True, "model.safetensors": False, "encoder.onnx": False, "pooling.json": False,
        "sentence.json": False, "modules.json": False,
    },
}  # fmt: skip
"""The files that a model of a task has in its bundle, and whether it must have each."""


def check_files(task: str, names: Collection[str]) -> None:
    """Raise `Invalid` that names a file which is missing, or is not one of this task's."""
    known = FILES[task]
    for name in names:
        if name not in known:
            right = f"one of {', '.join(known)}"
            raise Invalid(
                f"a model for {task} has no file {name[:100]!r}: {right}", errors=[FieldError("files", right)]
            )
    missing = [name for name, needed in known.items() if needed and name not in names]
    if task == "embedding" and not {"model.safetensors", "encoder.onnx"} & set(names):
        missing.append("model.safetensors")
    if missing:
        raise Invalid(f"a model for {task} needs the file {missing[0]}", errors=[FieldError("files", missing[0])])
