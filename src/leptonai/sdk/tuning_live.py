"""What is shown of a study while it runs: how far it is, and its best trials so far."""

import html
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from leptonai.sdk import show
from leptonai.tuning.front import Front
from leptonai.tuning.spec import Goal, Trial

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_ROWS = 8


class LiveTable(show.Progress):
    """A table of the best trials under the line that says how far the study is. Silent when nobody watches."""

    def __init__(self, title: str, goals: Sequence[Goal], settings: Sequence[str], *, show: bool | None = None):
        super().__init__(title, show=show)
        self._goals, self._settings = list(goals), list(settings)
        self._front = Front(goals)
        self._trials: list[Trial] = []
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if not self._show or show.notebook():
            super().__enter__()
            return self
        from rich.console import Console
        from rich.live import Live

        self._live = Live(self.shown(), console=Console(stderr=True), refresh_per_second=6)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update(self.shown())
            self._live.stop()
        super().__exit__(kind, error, trace)

    def take(self, body: Mapping[str, Any]) -> None:
        """Take an entry of the study's journal."""
        if body.get("kind") != "told":
            return
        trial = Trial.model_validate(body["trial"])
        if any(one.number == trial.number for one in self._trials[-64:]):
            return  # written twice
        self._trials.append(trial)
        self._front.add(trial)
        self._draw()

    def tell(self, note: str) -> None:
        """Say nothing more: the table has the figures."""

    def shown(self) -> "RenderableType":
        """Return what stands on the terminal now."""
        from rich.console import Group
        from rich.text import Text

        return Group(Text(f"{self.title}  {self._words()}".rstrip()), *show.fitting(self._head(), self._rows(), 110))

    def _words(self) -> str:
        states = [trial.state for trial in self._trials]
        counts = [f"{states.count(word)} {word}" for word in ("pruned", "failed") if word in states]
        return "  ".join([str(self._meter) if self._meter.total else "", *counts]).strip()

    def _head(self) -> list[str]:
        return ["trial", *(goal.metric for goal in self._goals), *self._settings]

    def _rows(self) -> list[list[object]]:
        sign = -1 if self._goals[0].larger else 1
        best = set(self._front.numbers)
        done = [trial for trial in self._trials if trial.state == "done"]
        done.sort(key=lambda trial: (trial.number not in best, sign * trial.values[0], trial.number))
        return [
            [trial.number, *trial.values, *(trial.params.get(name) for name in self._settings)]
            for trial in done[:_ROWS]
        ]

    def _html(self) -> str:
        bar = f"<div>{html.escape(self.title)} {html.escape(self._words())}</div>"
        return bar + show.html_table(self._head(), self._rows())

    def _draw(self, *, last: bool = False) -> None:
        if self._live is not None:
            self._live.update(self.shown())
        else:
            super()._draw(last=last)
