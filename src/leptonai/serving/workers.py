"""The processes that compute a version which has no ONNX file: how many, with which limits, and where they are met.

::

    FOLDER/w0, w1, …            the folder of each worker, which only this user can enter
        load.sock               where the agent gives it the model
        answer.sock             where planes ask for batches; there once the model is loaded
        stream.sock             where planes ask for answers in pieces, when the model gives such
        pulse                   see `serving.pulse`
    FOLDER/why                  how the last worker that died came to its end, in words
"""

import contextlib
from pathlib import Path

from pydantic import Field

from leptonai.core.nouns import Frozen, Model

LOAD = "load.sock"
ANSWER = "answer.sock"
STREAM = "stream.sock"
WHY = "why"
KEY = "worker"  # in the lineage of a Model


class Work(Frozen):
    """How a version is computed. A version of a framework, which says nothing of it, has the defaults."""

    workers: int = Field(default=1, ge=1, le=64)
    memory_mb: int | None = Field(default=None, ge=64)  # of each worker, with all that it starts; None: no limit
    threads: int = Field(default=1, ge=1, le=512)  # that each worker computes with
    max_batch: int = Field(default=64, ge=1, le=4096)  # rows that are computed together
    seconds: float = Field(default=60.0, gt=0, le=3600)  # that one batch, or the next piece, may take
    start_seconds: float = Field(default=180.0, gt=0, le=3600)  # that it may take to load
    predicts: bool = True
    streams: bool = False

    @classmethod
    def of(cls, model: Model) -> "Work":
        """Return what a version says of it."""
        return cls.model_validate(model.lineage.get(KEY) or {})


def slot(folder: Path, number: int) -> Path:
    """Return the folder of one worker."""
    return folder / f"w{number}"


def why(folder: Path) -> str:
    """Return how the last worker came to its end; "" when none did."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / WHY).read_text("utf-8")[:500]
    return ""
