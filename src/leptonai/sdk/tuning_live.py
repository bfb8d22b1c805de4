"""What is shown of a study while it runs: how far it is, and its best trials so far."""

import html
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from leptonai.sdk import show
from leptonai.tuning.front import Front
from leptonai.tuning.spec import Goal, Trial, Tune

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from leptonai.sdk.runs import Run

_ROWS = 8
_ROWS_ONCE = 50  # where it is shown once, and not drawn again and again


class LiveTable(show.Progress):
    """A table of the best trials under the line that says how far the study is. Silent when nobody watches."""

    def __init__(self, title: str, goals: Sequence[Goal], settings: Sequence[str], *, show: bool | None = None):
        super().__init__(title, show=show)
        self._goals, self._settings = list(goals), list(settings)
        self._front = Front(goals)
        self._trials: dict[int, Trial] = {}
        self._open: dict[int, Mapping[str, Any]] = {}  # settings of those at work, by number
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
        if body.get("kind") == "asked":
            if body["number"] not in self._trials:
                self._open[int(body["number"])] = body["params"]
            return
        if body.get("kind") != "told":
            return
        trial = Trial.model_validate(body["trial"])
        if trial.number in self._trials:
            return  # written twice
        self._trials[trial.number] = trial
        self._open.pop(trial.number, None)
        self._front.add(trial)
        self._draw()

    def tell(self, note: str) -> None:
        """Say nothing more: the table has the figures."""

    def shown(self, rows: int = _ROWS) -> "RenderableType":
        """Return what stands on the terminal now: the best trials, and those at work."""
        from rich.console import Group
        from rich.text import Text

        return Group(
            Text(f"{self.title}  {self._words()}".rstrip()), *show.fitting(self._head(), self._rows(rows), 110)
        )

    def _words(self) -> str:
        states = [trial.state for trial in self._trials.values()]
        counts = [f"{states.count(word)} {word}" for word in ("pruned", "failed") if word in states]
        return "  ".join([str(self._meter) if self._meter.total else "", *counts]).strip()

    def _head(self) -> list[str]:
        return ["trial", "state", *(goal.metric for goal in self._goals), *self._settings]

    def _rows(self, most: int = _ROWS) -> list[list[object]]:
        sign = -1 if self._goals[0].larger else 1
        best, none = set(self._front.numbers), [None] * len(self._goals)
        told = sorted(
            self._trials.values(),
            key=lambda t: (t.number not in best, t.state != "done", sign * t.values[0] if t.values else 0, t.number),
        )
        ended = [(t.number, "best" if t.number in best else t.state, t.values or none, t.params) for t in told[:most]]
        at_work = [(number, "at work", none, params) for number, params in self._open.items()]
        return [
            [number, state, *values, *(params.get(name) for name in self._settings)]
            for number, state, values, params in (*ended, *at_work)
        ]

    def _html(self) -> str:
        bar = f"<div>{html.escape(self.title)} {html.escape(self._words())}</div>"
        return bar + show.html_table(self._head(), self._rows())

    def _draw(self, *, last: bool = False) -> None:
        if self._live is not None:
            self._live.update(self.shown())
        else:
            super()._draw(last=last)


def so_far(run: "Run") -> LiveTable:
    """Return the table of a tune Run as it stands, whether it has ended or not."""
    spec = Tune.model_validate(run.record.spec)
    table = LiveTable("trials", spec.goals, list(spec.space), show=False)
    for event in run.events("trial"):
        table.take(event.body)
    return table


def once(run: "Run") -> "RenderableType":
    """Return what `lepton run get` shows of a study beside its record."""
    return so_far(run).shown(_ROWS_ONCE)
