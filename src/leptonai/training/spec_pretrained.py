"""What weights a training begins with: those of a model version, or of files that were uploaded for it."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.nouns import Frozen

WEIGHTS = ".safetensors"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"  # of a folder as Hugging Face writes it

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Pretrained(Frozen):
    """Where a training's first weights come from: a version (``models:/name/3``), or files by name.

    Files are one or several in the format safetensors, which carries no code; with ``config.json`` and ``tokenizer.json`` they
    are a folder as Hugging Face writes it. What stands below `source` is filled in by the server.
    """

    model: str | None = None
    files: dict[str, Digest] = Field(default_factory=dict, max_length=200)  # name -> blob
    source: Annotated[str, Field(max_length=1000)] = ""  # what they were called, for people
    digest: str | None = None  # of the version
    whole: bool = False  # the version's architecture is taken over too, since no model was given
    classes: tuple[str | int, ...] | None = None  # that the weights tell apart; None: not known

    @model_validator(mode="after")
    def _one_of_two(self) -> "Pretrained":
        if self.model is None and not self.files:
            raise ValueError("say a model version, such as models:/flowers/3, or files")
        if self.model is None and not any(name.endswith(WEIGHTS) for name in self.files):
            raise ValueError(f"among the files there is none in the format safetensors: {', '.join(self.files)}")
        return self

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.model or self.source or next(iter(self.files))

    @property
    def is_folder(self) -> bool:
        """Whether it is enough to make a model of text of."""
        return CONFIG in self.files and TOKENIZER in self.files


AnyPretrained = Annotated[
    Pretrained, BeforeValidator(lambda given: {"model": given} if isinstance(given, str) else given)
]


def unsafe(name: str) -> Invalid:
    """Return the error for a file in a format that can carry code."""
    return Invalid(
        f"pretrained: {name} is no safetensors file; formats such as .pt, .pth, .bin, .ckpt and .h5 can carry code, and are never read: "
        "load it where you trust it, torch.load(…, weights_only=True), and write it with safetensors.torch.save_file",
        errors=[FieldError("pretrained", "a file in the format safetensors")],
    )


def lines_of(found: Any) -> str:
    """Return the line of the log that says what was taken over: what a Learner says after it has begun."""
    new = ", ".join(found["new"][:6]) + (f", … {len(found['new'])} in all" if len(found["new"]) > 6 else "")
    said = f"begins with {found['taken']} of the {found['tensors']} weights of {found['source']}"
    if new:
        said += f"; new are {new}"
    return said + (f"; {found['unused']} of the file are not used" if found["unused"] else "")
