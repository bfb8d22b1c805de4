"""What one trial holds of the platform: the Run's handle, of which it gets what is a trial's own."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from leptonai.core.nouns import Run
from leptonai.core.ports import Store
from leptonai.core.stages import Handle

CHECKPOINT_SECONDS = (
    30.0  # a trial that is younger begins anew where it was cut; that costs less than checkpoints of all
)


class Pruned(Exception):
    """The trial is hopeless, and given up."""


class Watch:
    """The handle of one trial. `report`: takes (epoch, value of the goal), and says whether to give the trial up."""

    def __init__(
        self,
        handle: Handle,
        number: int,
        metric: str,
        report: Callable[[int, float], bool],
        *,
        seconds: float = CHECKPOINT_SECONDS,
    ):
        self._handle, self._number, self._metric, self._report = handle, number, metric, report
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
            if self._report(step, self.curve[-1]):
                raise Pruned

    def say(self, line: str) -> None:
        """Say nothing: what is worth a line is one line a trial."""

    def progress(self, done: float, total: float, unit: str) -> None:
        """Say nothing: progress is counted in trials."""

    def save(self, state: Mapping[str, bytes]) -> None:
        """Keep a checkpoint of this trial."""
        self._saved = time.monotonic()
        files = {"curve.json": json.dumps(self.curve).encode(), **state}
        self._handle.save({f"{self._prefix}{name}": data for name, data in files.items()})

    def restore(self) -> dict[str, bytes] | None:
        """Return the last checkpoint of this trial, and report the epochs it had. None where it had none."""
        files = self._handle.restore() or {}
        found = {name.removeprefix(self._prefix): data for name, data in files.items() if name.startswith(self._prefix)}
        if not found:
            return None
        for epoch, value in enumerate(json.loads(found.pop("curve.json")), 1):
            self.log(epoch, **{self._metric: value})
        return found

    @property
    def _prefix(self) -> str:
        return f"trial-{self._number}."
