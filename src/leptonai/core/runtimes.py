"""The port of what computes published models. It stands apart from the other four, since serving processes need no records.

See `core/ports.py` for the others, and for how adapters are found and held to their promise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from leptonai.core.signature import Signature


class LoadedModel(Protocol):
    """A model that a Runtime has loaded."""

    def predict(self, inputs: Mapping[str, Any], outputs: Sequence[str] = ()) -> dict[str, Any]:
        """Compute one batch: arrays by input name to arrays by output name."""

    def close(self) -> None:
        """Free it."""


@dataclass(frozen=True)
class Variant:
    """One way to compute a model; `threads`, `precision` and `device` are arguments of `Runtime.load`."""

    runtime: str
    threads: int = 1
    precision: str = "fp32"  # of the sums: "fp32" or, rounder and perhaps quicker, "bf16"
    device: str = "cpu"

    @property
    def name(self) -> str:
        """What it is called in a table, such as "openvino bf16 cpu, 2 threads"."""
        return f"{self.runtime} {self.precision} {self.device}, {self.threads} thread{'s' * (self.threads > 1)}"


class Runtime(Protocol):
    """What computes a published model. Streaming answers come with the text models."""

    name: str

    def variants(self, signature: Signature) -> list[Variant]:
        """Return the ways in which it can compute here, with one thread, the plainest first.

        None where its library is not installed, or when no model with this signature can be computed. That a way is
        named is no promise that it loads each model, or that it is quick and right: a race finds out.
        """

    def load(
        self, files: Mapping[str, bytes], threads: int = 1, *, precision: str = "fp32", device: str = ""
    ) -> LoadedModel:
        """Load a model from the files of its bundle, and read no other file. `device` "": where its settings say.

        Raises `Invalid` when they cannot be loaded, `Unsupported` for what it cannot compute.
        """


class LoadedText(Protocol):
    """A model of text that a `TextRuntime` has loaded. Thread-safe: up to `slots` calls at once share its batches."""

    slots: int
    facts: dict[str, Any]  # small JSON facts, such as how long a text may be

    def answer(self, asked: Mapping[str, Any], each: Callable[[Mapping[str, Any], bytes], bool]) -> None:
        """Answer one request, piece by piece: `each` gets JSON facts and bytes, and returns False when nobody listens any more.

        Then no more is computed for it from the next token on. Raises `Invalid` for what the model cannot take.
        """

    def close(self) -> None:
        """Free it."""


class TextRuntime(Protocol):
    """What computes text: a Runtime whose answers come in pieces, from requests that join a batch while it runs."""

    name: str

    def load(self, files: Mapping[str, Path], *, slots: int, context: int, threads: int) -> LoadedText:
        """Load a model from the files of its bundle, for `slots` requests at once of at most `context` tokens each.

        Raises `Invalid` when they cannot be loaded.
        """
