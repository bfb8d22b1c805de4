"""What the sections of a report's page are made of: tables and cards."""

from collections.abc import Iterable, Sequence
from html import escape

from leptonai.sdk import show


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table that is sorted by the column whose head is pressed."""
    lines = [list(row) for row in rows]
    numeric = [
        bool(lines) and all(isinstance(line[at], (int, float)) or line[at] is None for line in lines)
        for at in range(len(head))
    ]
    top = "".join(
        f"<th{' class=n' if right else ''}>{escape(name)}</th>" for name, right in zip(head, numeric, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td class=n data-v={float(cell)}>{escape(_whole(cell))}</td>"
            if right and isinstance(cell, (int, float))
            else f"<td>{escape(show.number(cell))}</td>"
            for cell, right in zip(line, numeric, strict=True)
        )
        + "</tr>"
        for line in lines
    )
    return f"<div class=wide><table class=sorts><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _whole(cell: float) -> str:
    whole = isinstance(cell, int) or (cell.is_integer() and abs(cell) > 1)
    return f"{int(cell):,}" if whole else show.number(cell)


def card(title: str, drawn: str, words: str) -> str:
    """Return a plot with a title above and words below."""
    return f"<div class=card><h3>{escape(title)}</h3>{drawn}<div class=dim>{escape(words)}</div></div>"
