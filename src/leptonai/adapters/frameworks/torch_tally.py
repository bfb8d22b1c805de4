"""The loss and the metrics of the batches so far."""

from collections.abc import Sequence
from typing import Any

import torch

from leptonai.adapters.frameworks import arrays
from leptonai.adapters.frameworks.torch_metrics import of_metric

_TOGETHER = 16  # batches whose metrics are counted together
_SMALL = 1 << 16  # numbers of outputs that wait to be counted, at most


class Tally:
    """Adds up losses, and metrics of `torch_metrics`, `torch_library_metrics` and `torch_several`.

    After a batch the processor's caches hold weights and gradients, and to count then takes five times as long as to count
    again. So small outputs wait, and those of several batches are counted at once, one after the other as they came.
    """

    def __init__(self, metrics: Sequence[Any] = ()):
        self.metrics = list(metrics)
        self._loss, self._rows = 0.0, 0.0  # loss x rows, rows
        self._waiting: list[tuple[Any, Any, Any]] = []
        self._begun = False

    def loss(self, value: float, rows: int) -> None:
        """Add the mean loss of so many rows."""
        self._loss += value * rows
        self._rows += rows

    def add(self, output: Any, y: Any, shaped: Any) -> None:
        """Add the outputs of a batch; `y`: targets as they came, `shaped`: as the loss took them."""
        if not self.metrics:
            return
        self._waiting.append((output, y, shaped))
        many = sum(part.numel() for part in (output.values() if isinstance(output, dict) else [output]))
        if not self._begun or len(self._waiting) >= _TOGETHER or many * len(self._waiting) >= _SMALL:
            self._begun = True  # the first at once: what a user's own metric says against it is said of its batch
            self._count()

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        with torch.no_grad():
            for output, y, shaped in waiting:
                for metric in self.metrics:
                    metric.update(output, y, shaped)

    def results(self) -> dict[str, float]:
        """Return the mean loss and the metrics by name, and begin anew."""
        self._count()
        found = {"loss": self._loss / self._rows if self._rows else float("nan")}
        for metric in self.metrics:
            found[metric.name] = metric.result()
            metric.reset()
        self._loss, self._rows = 0.0, 0.0
        return found

    def kept(self) -> bytes:
        """Return all that was added up, as a file."""
        self._count()
        sums = {f"{i}{key}": value.numpy() for i, m in enumerate(self.metrics) for key, value in m.kept().items()}
        return arrays.dump(sums, {"loss": [self._loss, self._rows]})

    def take(self, files: Sequence[bytes]) -> None:
        """Hold what these have kept, together, in place of what it holds."""
        given = [arrays.parse(data) for data in files]
        self._waiting = []
        self._loss, self._rows = (sum(parts) for parts in zip(*(about["loss"] for _, about in given), strict=True))
        for number, metric in enumerate(self.metrics):
            metric.take([of_metric(sums, number) for sums, _ in given])
