"""The curve of a bench as a picture: answers a second across, milliseconds up, both by powers of ten."""

import math
from collections.abc import Sequence
from html import escape

from leptonai.sdk.load import Level

_WIDE, _HIGH, _LEFT, _LOW = 760, 420, 70, 50
_LINES = (("p99", "#c0392b"), ("p90", "#e08e0b"), ("p50", "#1f6fb2"))


def svg(levels: Sequence[Level], title: str) -> str:
    """Return an SVG file."""
    found = [level for level in levels if level.answers]
    across = _Axis([level.per_second for level in found], _LEFT, _WIDE - 20)
    up = _Axis([getattr(level, name) for level in found for name, _ in _LINES], _HIGH - _LOW, 40)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
    ]
    for value in across.ticks:
        at = across.at(value)
        parts.append(f'<path d="M{at:.1f} 40V{_HIGH - _LOW}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{_HIGH - _LOW + 18}" text-anchor="middle">{value:g}</text>')
    for value in up.ticks:
        at = up.at(value)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDE - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{_WIDE / 2}" y="{_HIGH - 10}" text-anchor="middle">answers a second</text>')
    parts.append(f'<text x="18" y="{_HIGH / 2}" transform="rotate(-90 18 {_HIGH / 2})" text-anchor="middle">ms</text>')
    for place, (name, colour) in enumerate(_LINES):
        points = [(across.at(level.per_second), up.at(getattr(level, name))) for level in found]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), level in zip(points, found, strict=True):
            about = f"{level.connections} connections: {level.per_second:.0f}/s, {name} {getattr(level, name):.2f} ms"
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{escape(about)}</title></circle>'
            )
        parts.append(f'<text x="{_WIDE - 60}" y="22" dx="{-46 * place}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def html(levels: Sequence[Level], title: str) -> str:
    """Return a page with the curve and its figures; it loads nothing."""
    names = ("connections", "per_second", "p50", "p90", "p99", "worst", "failed")
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{getattr(level, name):,.6g}</td>" for name in names) + "</tr>" for level in levels
    )
    style = "body{font-family:sans-serif;max-width:60em;margin:2em auto}td,th{text-align:right;padding:.2em 1em}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style>'
        f"<body>{svg(levels, title)}<table><tr>{head}</tr>{rows}</table></body></html>\n"
    )


class _Axis:
    """A logarithmic axis from one place to another."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        known = [value for value in values if value > 0] or [1.0]
        self._low = math.floor(math.log10(min(known)) * 3) / 3
        self._high = max(self._low + 1 / 3, math.ceil(math.log10(max(known)) * 3) / 3)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 1e-9)) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    @property
    def ticks(self) -> list[float]:
        first, last = math.floor(self._low), math.ceil(self._high)
        every = [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
        return [value for value in every if self._low - 1e-9 <= math.log10(value) <= self._high + 1e-9]
