"""The sections of a report's page that tell how a model learns: fold by fold, from fewer rows, from wrong labels."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk import show
from leptonai.sdk.report_parts import card, table
from leptonai.sdk.report_plots import COLOURS, Axes


def sections(report: ReportRecord) -> Iterable[str]:
    """Yield the sections that there is something to say in."""
    yield from _folds(report)
    yield from _points(report.curve, "With fewer rows", "rows learnt from", "rows")
    yield from _points(report.noise, "With wrong labels", "share of labels that are wrong", "share")


def _folds(report: ReportRecord) -> Iterable[str]:
    if not report.folds:
        return
    names = list(report.metrics)
    rows = [
        [one["fold"], one["learnt_from"], one["rows"], *(one["metrics"].get(name) for name in names)]
        for one in report.folds
    ]
    yield "<h2>Fold by fold</h2>"
    yield f"<p class=dim>Rows were shared out by {escape(str(report.how.get('by')))}; figures above are those of all rows, each judged by a model that did not learn from it.</p>"
    yield table(("fold", "learnt from", "rows", *names), rows)
    if any("params" in one for one in report.folds):
        yield "<p class=dim>Settings were chosen anew for each fold, by trials within the rows that its model learnt from.</p>"
        lines = [
            (one["fold"], one["trials"], ", ".join(f"{k}: {show.number(v)}" for k, v in one["params"].items()))
            for one in report.folds
            if "params" in one
        ]
        yield table(("fold", "trials", "the best settings"), lines)


def _points(points: Sequence[Mapping[str, Any]], title: str, across: str, by: str) -> Iterable[str]:
    if not points:
        return
    names = list(points[0]["metrics"])
    first = names[0]
    xs, ys = [float(one[by]) for one in points], [float(one["metrics"].get(first, one["low"])) for one in points]
    lows, highs = [float(one["low"]) for one in points], [float(one["high"]) for one in points]
    room = 0.05 * ((max(highs) - min(lows)) or abs(max(highs)) or 1.0)
    axes = Axes((0.0, max(xs) or 1.0), (min(lows) - room, max(highs) + room), (across, first))
    inside = axes.line(xs, ys, COLOURS[0])
    for x, low, high in zip(xs, lows, highs, strict=True):
        inside += axes.line([x, x], [low, high], COLOURS[0], "3 3")
    words = [f"{across} {show.number(x)}: {first} {show.number(y)}" for x, y in zip(xs, ys, strict=True)]
    inside += axes.dots(xs, ys, COLOURS[0], words)
    yield f"<h2>{escape(title)}</h2><div class=cards>"
    yield card(
        first, axes.svg(inside, title), f"mean of {points[0]['folds']} folds; dashed: from the lowest to the highest"
    )
    rows = [(one["share"], one["rows"], *(one["metrics"].get(name) for name in names)) for one in points]
    yield "</div>" + table(("share", "rows", *names), rows)
