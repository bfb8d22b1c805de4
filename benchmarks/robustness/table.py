"""The table: a line for each row of the comparison and product."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from robustness.report import ROWS, Found

_COLOURS = {"green": "green", "red": "red", "n/a": "dim"}


def show(found: Mapping[str, Mapping[int, Found]], rows: Sequence[int]) -> None:
    """Print what was found, on stderr: the last line of stdout is for programs."""
    table = Table(title="Robustness, side by side", show_lines=False)
    for title in ("row", "product", "", "what was seen"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_section()
        test, target = ROWS[row]
        table.add_row(str(row), f"[bold]{test}[/]", "", f"[italic]target: {target}[/]")
        for name, cells in found.items():
            if (cell := cells.get(row)) is not None:
                table.add_row("", name, f"[{_COLOURS[cell.word]}]{cell.word}[/]", cell.short.replace("[", r"\["))
    Console(stderr=True, width=150).print(table)
