"""A study as one HTML page: plots are SVG, nothing is fetched when it is looked at, no script runs, every word is escaped."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from leptonai.sdk import show
from leptonai.sdk.profile_page import STYLE, bars
from leptonai.tuning.spec import Dimension, Trial, Tuned

_WIDE, _HIGH, _LEFT, _LOW = 760, 300, 64, 34
_DONE, _PRUNED, _BEST = "#3b7dd8", "#b9c2cc", "#d8731d"
_ROWS = 200  # trials that the table shows


def page(record: Tuned, run: str) -> str:
    """Return the page."""
    goals = [goal.metric for goal in record.goals]
    title = f"Tuning of {', '.join(goals)}"
    states = [trial.state for trial in record.trials]
    counts = ", ".join(f"{states.count(word)} {word}" for word in ("done", "pruned", "failed") if word in states)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=dim>{escape(record.data)}; {len(states)} trials ({counts}) in {show.span(record.seconds)}; {escape(run)}</p>",
        "<h2>The best</h2>",
        _table(_head(record), (_row(record, record.trials[number]) for number in record.front)),
        *(f"<p class=dim>{escape(note)}</p>" for note in record.notes),
        "<h2>History</h2>",
        *(f"<p class=dim>{escape(goal)}</p>{_history(record, place)}" for place, goal in enumerate(goals)),
    ]
    for a in range(len(goals)):
        parts += [
            f"<h2>{escape(goals[a])} against {escape(goals[b])}</h2>{_against(record, a, b)}"
            for b in range(a + 1, len(goals))
        ]
    if record.importance:
        pairs = sorted(record.importance.items(), key=lambda pair: -pair[1])
        parts += [f"<h2>What matters for {escape(goals[0])}</h2><div style='max-width:520px'>{bars(pairs)}</div>"]
    parts += ["<h2>Settings, trial by trial</h2>", _parallel(record)]
    if any(len(trial.curve) > 1 for trial in record.trials):
        parts += [f"<h2>{escape(goals[0])} by epoch</h2>", _curves(record)]
    parts += ["<h2>Trials</h2>", _table(_head(record), (_row(record, trial) for trial in _ranked(record)[:_ROWS]))]
    if len(record.trials) > _ROWS:
        parts.append(f"<p class=dim>and {len(record.trials) - _ROWS:,} more</p>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _ranked(record: Tuned) -> list[Trial]:
    sign = -1 if record.goals[0].larger else 1
    return sorted(
        record.trials,
        key=lambda t: (not t.values, t.state != "done", sign * t.values[0] if t.values else 0.0, t.number),
    )


def _head(record: Tuned) -> list[str]:
    return ["trial", "state", *(goal.metric for goal in record.goals), *record.space, "epochs", "seconds"]


def _row(record: Tuned, trial: Trial) -> list[str]:
    values = [show.number(value) for value in trial.values] or [""] * len(record.goals)
    state = f"{trial.state}: {trial.error}" if trial.error else trial.state
    settings = [show.number(trial.params[name]) if name in trial.params else "" for name in record.space]
    return [str(trial.number), state[:160], *values, *settings, str(trial.epochs), f"{trial.seconds:.3f}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{top}</tr>{body}</table></div>"


class _Axis:
    """Where values stand: from `start` to `end`, by their size, or by powers of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool = False):
        self._log = log
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        self._low, self._high = self._of(low), self._of(high)
        if self._low == self._high:
            self._low, self._high = self._low - 0.5, self._high + 0.5
        self._start, self._end = start, end

    def _of(self, value: float) -> float:
        return math.log10(value) if self._log else float(value)

    def at(self, value: float) -> float:
        """The place of a value."""
        share = (self._of(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    @property
    def ticks(self) -> list[float]:
        """Five values, evenly apart."""
        found = [self._low + (self._high - self._low) * step / 4 for step in range(5)]
        return [10**value if self._log else value for value in found]


def _frame(across: _Axis, up: _Axis, names: tuple[str, str], inside: str, *, whole: bool = False) -> str:
    parts = []
    for value in up.ticks:
        y = up.at(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDE - 10}" stroke="#e7ebf0"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(f"{value:.4g}")}</text>')
    for value in across.ticks:
        words = f"{value:.0f}" if whole else f"{value:.4g}"
        parts.append(f'<text x="{across.at(value):.1f}" y="{_HIGH - 16}" text-anchor="middle">{escape(words)}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDE) / 2}" y="{_HIGH - 2}" text-anchor="middle">{escape(names[0])}</text>')
    parts.append(f'<text x="4" y="12">{escape(names[1])}</text>')
    return _svg("".join(parts) + inside, _HIGH)


def _svg(inside: str, high: float) -> str:
    return f'<svg viewBox="0 0 {_WIDE} {high}" width="100%" style="max-width:{_WIDE}px" font-size="11" fill="#55606e" role="img">{inside}</svg>'


def _dot(x: float, y: float, colour: str, words: str, size: float = 3.5) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}" fill-opacity=".8"><title>{escape(words)}</title></circle>'


def _words(record: Tuned, trial: Trial) -> str:
    goals = ", ".join(f"{g.metric} {v:.5g}" for g, v in zip(record.goals, trial.values, strict=False))
    return f"trial {trial.number}: {goals}; " + ", ".join(f"{k} {show.number(v)}" for k, v in trial.params.items())


def _measured(record: Tuned) -> list[Trial]:
    return [trial for trial in record.trials if trial.values]


def _history(record: Tuned, place: int) -> str:
    found = [trial for trial in _measured(record) if len(trial.values) > place]
    across = _Axis([trial.number for trial in found], _LEFT + 8, _WIDE - 20)
    up = _Axis([trial.values[place] for trial in found], _HIGH - _LOW - 8, 20)
    dots, path, best = [], [], None
    for trial in found:
        value = trial.values[place]
        x, y = across.at(trial.number), up.at(value)
        colour = _PRUNED if trial.state == "pruned" else _BEST if trial.number in record.front else _DONE
        dots.append(_dot(x, y, colour, _words(record, trial)))
        if trial.state == "done" and (best is None or (value > best if record.goals[place].larger else value < best)):
            path.append(f"{'M' if best is None else 'H'}{x:.1f} {f'{y:.1f}' if best is None else f'V{y:.1f}'}")
            best = value
    line = f'<path d="{" ".join(path)} H{_WIDE - 20}" fill="none" stroke="{_BEST}" stroke-width="1.5"/>' if path else ""
    return _frame(across, up, ("trial", record.goals[place].metric), line + "".join(dots), whole=True)


def _against(record: Tuned, a: int, b: int) -> str:
    found = [trial for trial in _measured(record) if trial.state == "done"]
    across = _Axis([trial.values[a] for trial in found], _LEFT + 8, _WIDE - 20)
    up = _Axis([trial.values[b] for trial in found], _HIGH - _LOW - 8, 20)
    best = sorted((t for t in found if t.number in record.front), key=lambda t: t.values[a])
    line = " ".join(f"{across.at(t.values[a]):.1f},{up.at(t.values[b]):.1f}" for t in best)
    dots = [
        _dot(
            across.at(t.values[a]),
            up.at(t.values[b]),
            _BEST if t in best else _DONE,
            _words(record, t),
            5 if t in best else 3.5,
        )
        for t in found
    ]
    inside = f'<polyline points="{line}" fill="none" stroke="{_BEST}" stroke-dasharray="4 3"/>' + "".join(dots)
    return _frame(across, up, (record.goals[a].metric, record.goals[b].metric), inside)


def _curves(record: Tuned) -> str:
    found = [trial for trial in record.trials if len(trial.curve) > 1]
    across = _Axis([1.0, float(max(len(trial.curve) for trial in found))], _LEFT + 8, _WIDE - 20)
    up = _Axis([value for trial in found for value in trial.curve], _HIGH - _LOW - 8, 20)
    lines = []
    for trial in sorted(found, key=lambda t: t.number in record.front):
        points = " ".join(f"{across.at(epoch):.1f},{up.at(value):.1f}" for epoch, value in enumerate(trial.curve, 1))
        best = trial.number in record.front
        colour = _BEST if best else _PRUNED if trial.state == "pruned" else _DONE
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{2 if best else 1}" stroke-opacity=".8">'
            f"<title>{escape(_words(record, trial))}</title></polyline>"
        )
    return _frame(across, up, ("epoch", record.goals[0].metric), "".join(lines), whole=True)


def _parallel(record: Tuned) -> str:
    """One axis for each setting, and one for the first goal; a line for each trial, the best ones on top."""
    found = list(reversed(_ranked(record)))
    found = [trial for trial in found if trial.values]
    names = [*record.space, record.goals[0].metric]
    gap = (_WIDE - 120) / max(1, len(names) - 1)
    top, bottom = 34.0, _HIGH - 14.0
    axes: list[Any] = [_setting(record.space[name], bottom, top) for name in record.space]
    values = [trial.values[0] for trial in found]
    axes.append(_Axis(values, bottom, top))
    parts = []
    order = {trial.number: place / max(1, len(found) - 1) for place, trial in enumerate(found)}
    for trial in found:
        cells = [*(trial.params.get(name) for name in record.space), trial.values[0]]
        places = [
            (60 + gap * at, axis.at(cell))
            for at, (axis, cell, name) in enumerate(zip(axes, cells, names, strict=True))
            if at == len(names) - 1 or name in trial.params
        ]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        best, share = trial.number in record.front, order[trial.number]
        colour = _BEST if best else _DONE
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{2.5 if best else 1}" '
            f'stroke-opacity="{1 if best else 0.08 + 0.5 * share**2:.2f}"><title>{escape(_words(record, trial))}</title></polyline>'
        )
    for at, (axis, name) in enumerate(zip(axes, names, strict=True)):
        x = 60 + gap * at
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#8a94a0"/>')
        parts.append(f'<text x="{x:.1f}" y="14" text-anchor="middle" font-weight="600">{escape(name[:20])}</text>')
        parts += [
            f'<text x="{x + 4:.1f}" y="{y + 4:.1f}">{escape(words)}</text>' for y, words in _marks(axis, bottom, top)
        ]
    return _svg("".join(parts), _HIGH)


class _Choices:
    """An axis of what is chosen from."""

    def __init__(self, choices: Sequence[Any], start: float, end: float):
        self.words = [str(list(one) if isinstance(one, tuple) else one) for one in choices]
        self._start, self._step = start, (end - start) / max(1, len(choices) - 1)

    def at(self, value: Any) -> float:
        """The place of a value."""
        return self._start + self._step * self.words.index(str(list(value) if isinstance(value, tuple) else value))


def _setting(dimension: Dimension, start: float, end: float) -> Any:
    if dimension.kind == "choice":
        return _Choices(dimension.choices, start, end)
    return _Axis([dimension.low or 0.0, dimension.high or 0.0], start, end, log=dimension.log)


def _marks(axis: Any, bottom: float, top: float) -> list[tuple[float, str]]:
    if isinstance(axis, _Choices):
        step = (top - bottom) / max(1, len(axis.words) - 1)
        return [(bottom + step * place, word[:16]) for place, word in enumerate(axis.words) if len(axis.words) <= 12]
    return [(axis.at(value), f"{value:.3g}") for value in (axis.ticks[0], axis.ticks[-1])]
