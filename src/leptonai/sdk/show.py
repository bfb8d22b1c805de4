"""How things are shown: a live line of progress on stderr, tables at a prompt, cards in a notebook.

Data goes to stdout, progress to stderr, and none where nobody watches: stderr is neither a terminal nor a notebook.
"""

import html
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.table import Table

_BAR = 24  # characters
_SECONDS_BETWEEN = 0.2  # updates of a notebook's cell; more would only fill its file


def notebook() -> bool:
    """Whether the code runs in a notebook's kernel (never imports IPython to find out)."""
    found = sys.modules.get("IPython")
    shell = found.get_ipython() if found is not None and hasattr(found, "get_ipython") else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def watched() -> bool:
    """Whether somebody sees progress: stderr is a terminal, or this is a notebook."""
    return notebook() or (sys.stderr is not None and sys.stderr.isatty())


def note(line: str) -> None:
    """Say one line on stderr."""
    print(f"lepton: {line}", file=sys.stderr, flush=True)


def console(*, stderr: bool = False) -> "Console":
    """Return a console that honours NO_COLOR; where it is no terminal, lines are as long as they need to be."""
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=10_000)


# ------------------------------------------------------------------------------------------------ small words


def size(count: float) -> str:
    """Return a number of bytes as people read it: ``1.4 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def span(seconds: float) -> str:
    """Return a duration as people read it: ``0.4 s``, ``2:05``, ``3:10:00``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(moment: datetime | None) -> str:
    """Return how long ago it was: ``5 s ago``; nothing for None."""
    if moment is None:
        return ""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def number(value: object) -> str:
    """Return a value as a table shows it: floats with four significant digits or so."""
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3e}"
    return "" if value is None else str(value)


# ----------------------------------------------------------------------------------------------------- tables


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """Make a table; numbers stand to the right."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    lines = [list(row) for row in rows]
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        numeric = bool(lines) and all(isinstance(line[place], (int, float)) for line in lines)
        made.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for line in lines:
        made.add_row(*(escape(number(value)) for value in line))
    return made


def fitting(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> "Iterator[RenderableType]":
    """Yield a table of the first columns that fit into `width` characters, and of the last; then how many are not shown."""
    wide = [
        max(map(len, (name, *(number(row[place]) for row in rows)))) + 3  # with the space between columns
        for place, name in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    while len(shown) > 2 and sum(wide[place] for place in shown) > width:
        del shown[-2]
    yield table([columns[place] for place in shown], [[row[place] for place in shown] for row in rows])
    if hidden := len(columns) - len(shown):
        yield f"… {hidden} more columns before {columns[-1]}"


def facts_table(facts: Mapping[str, object], title: str | None = None) -> "RenderableType":
    """Make a table of names and values."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in facts.items():
        made.add_row(escape(name), escape(number(value)))
    return made if title is None else titled(made, title)


def titled(shown: "RenderableType", title: str) -> "RenderableType":
    """Put a title above; that of a rich table is as narrow as the table."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(title, style="bold"), shown)


def text(shown: "RenderableType") -> str:
    """Return what a console would print, without colour: for ``__repr__``."""
    from rich.console import Console

    out = StringIO()
    Console(file=out, width=120, no_color=True, force_jupyter=False).print(shown)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table for a notebook; every cell is escaped."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(number(value))}</td>" for value in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def card(title: str, facts: Mapping[str, object], more: str = "") -> str:
    """Return a title and its facts for a notebook; they are escaped, `more` is HTML already."""
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(number(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<div><strong>{html.escape(title)}</strong><table><tbody>{body}</tbody></table>{more}</div>"


# --------------------------------------------------------------------------------------------------- progress


class Meter:
    """Counts, and knows the rate and the time left. A count that goes back begins a new measure."""

    def __init__(self) -> None:
        self.done = 0.0
        self.total = 0.0
        self.unit = ""
        self._from = (time.monotonic(), 0.0)

    def set(self, done: float, total: float, unit: str) -> None:
        """Take the new count."""
        if done < self.done or unit != self.unit:
            self._from = (time.monotonic(), done)
        self.done, self.total, self.unit = done, total, unit

    def __str__(self) -> str:
        began, first = self._from
        took = time.monotonic() - began
        rate = (self.done - first) / took if took > 0.2 else 0.0
        if self.unit == "bytes":
            parts = [f"{size(self.done)}/{size(self.total)}", f"{size(rate)}/s" if rate else ""]
        else:
            parts = [f"{self.done:g}/{self.total:g} {self.unit}", f"{rate:,.4g} {self.unit}/s" if rate else ""]
        if rate and 0 < self.done < self.total:
            parts.append(f"{span((self.total - self.done) / rate)} left")
        elif self.done and took > 0.2:
            parts.append(f"in {span(took)}")
        return "  ".join(part.strip() for part in parts if part)


class Progress:
    """A live line: what is done, the rate, the time left, and a note. Silent when nobody watches.

    Use it in a ``with``; `show` True or False overrules the look at stderr.
    """

    def __init__(self, title: str, *, show: bool | None = None):
        self.title = title
        self._show = watched() if show is None else show
        self._meter = Meter()
        self._note = ""
        self._rich: RichProgress | None = None
        self._task: TaskID | None = None
        self._cell: Any = None
        self._last = 0.0

    def __enter__(self) -> Self:
        if not self._show:
            return self
        if notebook():
            from IPython.display import HTML, display

            self._cell = display(HTML(self._html()), display_id=True)  # type: ignore[no-untyped-call]
            return self
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True),
        )
        self._rich.start()
        self._task = self._rich.add_task(self.title, total=None, words="")
        return self

    def update(self, done: float, total: float, unit: str = "") -> None:
        """Say how far it is."""
        self._meter.set(done, total, unit)
        self._draw()

    def tell(self, note: str) -> None:
        """Show a few words behind the count, such as the latest metrics."""
        self._note = note
        self._draw()

    def take(self, body: Mapping[str, Any]) -> None:
        """Take an entry of the Run's journal, such as a trial that ended; a plain line shows nothing of it."""

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._rich is not None:
            self._rich.console.print(line, markup=False, highlight=False)
        elif self._cell is not None:
            print(line, file=sys.stderr)

    def _words(self) -> str:
        counted = str(self._meter) if self._meter.total else ""
        return "  ".join(part for part in (counted, self._note) if part)

    def _html(self) -> str:
        value = f"value='{self._meter.done:g}' max='{self._meter.total:g}'" if self._meter.total else ""
        return f"<div>{html.escape(self.title)} <progress {value}></progress> {html.escape(self._words())}</div>"

    def _draw(self, *, last: bool = False) -> None:
        if self._rich is not None and self._task is not None:
            words, room = self._words(), max(10, self._rich.console.width - len(self.title) - _BAR - 3)
            # On a narrow terminal it is the words that are cut, not the bar.
            words = words if len(words) <= room else f"{words[: room - 1]}…"
            self._rich.update(self._task, completed=self._meter.done, total=self._meter.total or None, words=words)
        elif self._cell is not None and (last or time.monotonic() - self._last > _SECONDS_BETWEEN):
            from IPython.display import HTML

            self._last = time.monotonic()
            self._cell.update(HTML(self._html()))  # type: ignore[no-untyped-call]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw(last=True)
        if self._rich is not None:
            self._rich.stop()
