"""What one trial holds of the platform: the Run's handle, of which it gets what is a trial's own."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from leptonai.core.nouns import Run
from leptonai.core.ports import Store
from leptonai.core.stages import Handle

CHECKPOINT_SECONDS = (
    30.0  # a trial that is younger begins anew where it was cut; that costs less than checkpoints of all
)


class Pruned(Exception):
    """The trial is hopeless, and given up."""


class Line(Protocol):
    """How a trial speaks to its study, which may be in another process."""

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Tell the goal after an epoch, counted from 1; returns whether to give the trial up."""

    def save(self, number: int, files: Mapping[str, bytes]) -> None:
        """Keep a checkpoint."""

    def saved(self, number: int) -> dict[str, bytes]:
        """Return the last checkpoint of the trial; empty where it had none."""


class Watch:
    """The handle of one trial. `metric`: the goal that its curve is of."""

    def __init__(self, handle: Handle, line: Line, number: int, metric: str, *, seconds: float = CHECKPOINT_SECONDS):
        self._handle, self._line, self._number, self._metric = handle, line, number, metric
        self._seconds, self._saved = seconds, time.monotonic()
        self.curve: list[float] = []

    @property
    def run(self) -> Run:
        """The Run of the study."""
        return self._handle.run

    @property
    def blobs(self) -> Store:
        """Its blobs."""
        return self._handle.blobs

    @property
    def cache(self) -> Path | None:
        """The machine's folder of what is remembered beyond a Run, such as the quickest way to compute a network."""
        return self._handle.cache

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the trial is old enough to be worth one."""
        return time.monotonic() - self._saved >= self._seconds

    def data(self, ref: str, *, mask: bool = False) -> Any:
        """Open a dataset."""
        return self._handle.data(ref, mask=mask)

    def log(self, step: int, **metrics: float) -> None:
        """Take the metrics of an epoch. Raises `Pruned`."""
        if self._metric in metrics and step > len(self.curve):
            self.curve.append(float(metrics[self._metric]))
            if self._line.report(self._number, step, self.curve[-1]):
                raise Pruned

    def say(self, line: str) -> None:
        """Say nothing: what is worth a line is one line a trial."""

    def progress(self, done: float, total: float, unit: str) -> None:
        """Say nothing: progress is counted in trials."""

    def save(self, state: Mapping[str, bytes]) -> None:
        """Keep a checkpoint of this trial."""
        self._saved = time.monotonic()
        self._line.save(self._number, {"curve.json": json.dumps(self.curve).encode(), **state})

    def restore(self) -> dict[str, bytes] | None:
        """Return the last checkpoint of this trial, and report the epochs it had. None where it had none."""
        found = self._line.saved(self._number)
        if not found:
            return None
        for epoch, value in enumerate(json.loads(found.pop("curve.json")), 1):
            self.log(epoch, **{self._metric: value})
        return found
