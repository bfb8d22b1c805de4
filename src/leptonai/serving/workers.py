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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

LOAD = "load.sock"
ANSWER = "answer.sock"
STREAM = "stream.sock"
WHY = "why"
KEY = "worker"  # in the lineage of a Model


@dataclass(frozen=True)
class Work:
    """How a version is computed. A version of a framework, which says nothing of it, has the defaults."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    workers: Annotated[int, Ge(1), Le(64)] = 1
    memory_mb: Annotated[int, Ge(64)] | None = None  # of each worker, with all that it starts; None: no limit
    threads: Annotated[int, Ge(1), Le(512)] = 1  # that each worker computes with
    max_batch: Annotated[int, Ge(1), Le(4096)] = 64  # rows that are computed together
    seconds: Annotated[float, Gt(0), Le(3600)] = 60.0  # that one batch, or the next piece, may take
    start_seconds: Annotated[float, Gt(0), Le(3600)] = 180.0  # that it may take to load
    predicts: bool = True
    streams: bool = False

    @classmethod
    def of(cls, lineage: Mapping[str, Any]) -> "Work":
        """Return what the lineage of a version says of it, where it was checked."""
        return cls(**(lineage.get(KEY) or {}))


def slot(folder: Path, number: int) -> Path:
    """Return the folder of one worker."""
    return folder / f"w{number}"


def why(folder: Path) -> str:
    """Return how the last worker came to its end; "" when none did."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / WHY).read_text("utf-8")[:500]
    return ""
