"""The plots of a report as SVG, each with its numbers in words for whoever points at a place, or cannot see it."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from leptonai.sdk import show

COLOURS = ("#2f6fd0", "#c2571a", "#2a8a57", "#8a4fbf", "#b3355e", "#5f7a1f", "#1f8f9e", "#9a6a12")
_WIDE, _HIGH = 340, 300
_LEFT, _TOP, _RIGHT, _BOTTOM = 46, 10, 12, 40


class Axes:
    """A square of a plot: it knows where values lie, and draws its ticks."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], names: tuple[str, str]):
        self._x, self._y, self._names = x, y, names

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point lies."""
        (x0, x1), (y0, y1) = self._x, self._y
        across = (x - x0) / ((x1 - x0) or 1)
        up = (y - y0) / ((y1 - y0) or 1)
        return (
            round(_LEFT + across * (_WIDE - _LEFT - _RIGHT), 1),
            round(_HIGH - _BOTTOM - up * (_HIGH - _TOP - _BOTTOM), 1),
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str, dash: str = "") -> str:
        """Return a line through points."""
        path = " ".join(f"{x},{y}" for x, y in (self.at(x, y) for x, y in zip(xs, ys, strict=True)))
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'

    def dots(self, xs: Sequence[float], ys: Sequence[float], colour: str, words: Sequence[str], size: float = 4) -> str:
        """Return points that say their words when they are pointed at."""
        return "".join(
            f'<circle cx="{x}" cy="{y}" r="{size}" fill="{colour}" fill-opacity="{0.9 if size > 3 else 0.35}"><title>{escape(word)}</title></circle>'
            for (x, y), word in zip((self.at(x, y) for x, y in zip(xs, ys, strict=True)), words, strict=True)
        )

    def svg(self, inside: str, label: str, more: str = "") -> str:
        """Return the plot."""
        lines = []
        for x in _ticks(*self._x):
            at = self.at(x, self._y[0])
            lines.append(f'<line x1="{at[0]}" x2="{at[0]}" y1="{_TOP}" y2="{_HIGH - _BOTTOM}" class="grid"/>')
            lines.append(
                f'<text x="{at[0]}" y="{_HIGH - _BOTTOM + 15}" text-anchor="middle">{escape(_short(x))}</text>'
            )
        for y in _ticks(*self._y):
            at = self.at(self._x[0], y)
            lines.append(f'<line x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{at[1]}" y2="{at[1]}" class="grid"/>')
            lines.append(f'<text x="{_LEFT - 6}" y="{at[1] + 4}" text-anchor="end">{escape(_short(y))}</text>')
        across, up = (escape(name) for name in self._names)
        middle = (_HIGH - _BOTTOM) / 2
        return (
            f'<svg viewBox="0 0 {_WIDE} {_HIGH}" width="100%" font-size="11" role="img" aria-label="{escape(label, quote=True)}"{more}>'
            f'{"".join(lines)}{inside}<text x="{(_WIDE + _LEFT) / 2}" y="{_HIGH - 6}" text-anchor="middle">{across}</text>'
            f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})">{up}</text></svg>'
        )


def curves(found: Mapping[str, Any], names: tuple[str, str], label: str, *, chance: bool = False) -> str:
    """Return the curves of classes. Pointing at one tells the values there."""
    axes = Axes((0, 1), (0, 1), names)
    parts = [axes.line((0, 1), (0, 1), "#9aa4b0", "4 4")] if chance else []
    for number, (name, curve) in enumerate(list(found.items())[: len(COLOURS)]):
        parts.append(axes.line(curve["x"], curve["y"], COLOURS[number]))
        words = [
            f"{name}: {names[0]} {x:.3f}, {names[1]} {y:.3f}" + ("" if t is None else f", from a score of {t:.4g}")
            for x, y, t in zip(curve["x"], curve["y"], curve["at"], strict=True)
        ]
        every = max(1, len(words) // 40)
        parts.append(
            f'<g class="points">{axes.dots(curve["x"][::every], curve["y"][::every], COLOURS[number], words[::every], 5)}</g>'
        )
    return axes.svg("".join(parts), label) + legend(list(found)[: len(COLOURS)] if len(found) > 1 else ())


def legend(names: Sequence[str]) -> str:
    """Return which colour is which class."""
    return (
        "<div class=legend>"
        + "".join(
            f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
            for name, colour in zip(names, COLOURS, strict=False)
        )
        + "</div>"
        if names
        else ""
    )


def calibration(found: Mapping[str, Any]) -> str:
    """Return how often what has a score is true, beside the score."""
    axes = Axes((0, 1), (0, 1), ("mean score", "share that is true"))
    words = [
        f"{rows:,} rows: mean score {said:.3f}, true {was:.3f}"
        for said, was, rows in zip(found["score"], found["share"], found["rows"], strict=True)
    ]
    most = max(found["rows"])
    bars = "".join(
        _bar(axes, said, rows / most * 0.18) for said, rows in zip(found["score"], found["rows"], strict=True)
    )
    inside = (
        axes.line((0, 1), (0, 1), "#9aa4b0", "4 4")
        + bars
        + axes.line(found["score"], found["share"], COLOURS[0])
        + axes.dots(found["score"], found["share"], COLOURS[0], words)
    )
    return axes.svg(inside, "Calibration")


def _bar(axes: Axes, x: float, high: float) -> str:
    left, base = axes.at(x, 0)
    top = axes.at(x, high)[1]
    return f'<rect x="{left - 6}" y="{top}" width="12" height="{max(0.5, base - top):.1f}" fill="#9aa4b0" fill-opacity=".45"/>'


def histogram(edges: Sequence[float], counts: Sequence[int], name: str) -> str:
    """Return how often values lie where."""
    axes = Axes((edges[0], edges[-1]), (0, max(counts) or 1), (name, "rows"))
    bars = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        (x0, y), (x1, base) = axes.at(low, count), axes.at(high, 0)
        words = escape(f"{_short(low)} to {_short(high)}: {count:,} rows")
        bars.append(
            f'<rect x="{x0}" y="{y}" width="{max(0.5, x1 - x0 - 1):.1f}" height="{base - y:.1f}" fill="{COLOURS[0]}"><title>{words}</title></rect>'
        )
    return axes.svg("".join(bars), name)


def scatter(xs: Sequence[float], ys: Sequence[float], names: tuple[str, str], *, line: str = "") -> str:
    """Return points; `line`: "diagonal", "zero" or none."""
    low, high = min(xs), max(xs)
    ends = (min(*ys, low), max(*ys, high)) if line == "diagonal" else (min(ys), max(ys))
    if line == "diagonal":
        low, high = ends
    if line == "zero":
        ends = (min(0.0, ends[0]), max(0.0, ends[1]))
    axes = Axes((low, high if high > low else low + 1), ends if ends[1] > ends[0] else (ends[0], ends[0] + 1), names)
    drawn = ""
    if line:
        drawn = axes.line((low, high), (low, high) if line == "diagonal" else (0, 0), "#9aa4b0", "4 4")
    words = [f"{names[0]} {_short(x)}, {names[1]} {_short(y)}" for x, y in zip(xs, ys, strict=True)]
    return axes.svg(drawn + axes.dots(xs, ys, COLOURS[0], words, 2.6), f"{names[1]} by {names[0]}")


def confusion(classes: Sequence[str | int], counts: Sequence[Sequence[int]]) -> str:
    """Return the confusion matrix as a table; the deeper a cell's colour, the greater its share of the row."""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in classes)
    lines = []
    for at, (name, row) in enumerate(zip(classes, counts, strict=True)):
        total = sum(row) or 1
        cells = "".join(_cell(count, count / total, at == place) for place, count in enumerate(row))
        lines.append(f"<tr><th>{escape(str(name))}</th>{cells}</tr>")
    return f"<div class=wide><table class=heat id=confusion><tr><td class=dim>true \\ predicted</td>{head}</tr>{''.join(lines)}</table></div>"


def _cell(count: int, share: float, right: bool) -> str:
    colour = "47,111,208" if right else "194,87,26"
    return f'<td style="background:rgba({colour},{0.75 * share:.2f})" title="{share:.1%} of the row">{count:,}</td>'


def whisker(value: float, ends: tuple[float, float] | None, low: float, high: float) -> str:
    """Return a value between the ends of its interval, on a scale from low to high."""
    place: Callable[[float], float] = lambda v: round(4 + 152 * (v - low) / ((high - low) or 1), 1)  # noqa: E731
    inside = f'<line x1="4" x2="156" y1="9" y2="9" class="grid"/><circle cx="{place(value)}" cy="9" r="3" fill="{COLOURS[0]}"/>'
    if ends is not None:
        inside = (
            inside
            + f'<line x1="{place(ends[0])}" x2="{place(ends[1])}" y1="9" y2="9" stroke="{COLOURS[0]}" stroke-width="5" stroke-opacity=".45"/>'
        )
    return f'<svg viewBox="0 0 160 18" width="160" height="18" role="img" aria-label="{escape(show.number(value))}">{inside}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round values between the ends."""
    if (low, high) == (0, 1):
        return [0, 0.25, 0.5, 0.75, 1]
    step = 10.0 ** math.floor(math.log10((high - low) / 2)) if high > low else 1.0
    step *= next(more for more in (1, 2, 2.5, 5, 10) if (high - low) / (step * more) <= 5.5)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.2e}"
