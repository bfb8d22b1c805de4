"""The sections of a report's page that tell what was found out by asking again: columns, places, changed rows."""

from collections.abc import Iterable
from html import escape
from typing import Any

from leptonai.evaluation.spec import Details
from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk.report_parts import card, table


def sections(report: ReportRecord, details: Details) -> Iterable[str]:
    """Yield the sections that there is something to say in."""
    yield from _importance(report)
    yield from _explanation(report)
    yield from _examples(report, details)
    yield from _outliers(report, details)
    yield from _robustness(report)


def _importance(report: ReportRecord) -> Iterable[str]:
    if not report.importance:
        return
    what = "accuracy that is lost" if report.classes else "mean absolute error that is added"
    yield f"<h2>Which columns it needs</h2><p class=dim>{what} when the values of a column are shuffled among the rows.</p>"
    names = ("column", "importance", "spread")
    yield table(
        (*names[:2], "spread of five shuffles"), [[one[name] for name in names] for one in report.importance[:50]]
    )


def _robustness(report: ReportRecord) -> Iterable[str]:
    asked = report.robustness
    if not asked:
        return
    yield "<h2>What spoilt rows cost it</h2>"
    yield f"<p class=dim>{asked['metric']} of {asked['rows']:,} rows; as they are: <b>{asked['clean']:.4g}</b>.</p>"
    ways: dict[str, list[float]] = {}
    for one in asked["told"]:
        ways.setdefault(one["way"], []).append(one["value"])
    yield table(("", *(f"severity {n}" for n in range(1, 6))), [(way, *values) for way, values in ways.items()])
    if asked.get("attacks"):
        yield (
            "<p class=dim>The same rows changed to where it errs most, by its own gradients; severity 5 is at most "
            f"{asked['attacks'][-1]['size']:.3g} of what the model takes.</p>"
        )
        aimed: dict[str, list[float]] = {}
        for one in asked["attacks"]:
            aimed.setdefault(one["way"], []).append(one["value"])
        names = [f"severity {n}" for n in range(1, 1 + max(map(len, aimed.values())))]
        yield table(
            ("attack", *names), [(way, *values, *[None] * (len(names) - len(values))) for way, values in aimed.items()]
        )


def _explanation(report: ReportRecord) -> Iterable[str]:
    asked = report.explanation
    if not asked.get("columns"):
        return
    what = "the probability of the class that is said" if report.classes else "what is predicted"
    yield (
        f"<h2>What its answers come from</h2><p class=dim>How much a column moves {what}, up or down: mean size of its share, by "
        f"{escape(asked['method'])}, over {asked['rows']:,} rows against {asked['background']:,} others.</p>"
    )
    most = max(one["share"] for one in asked["columns"]) or 1.0
    rows = [[one["column"], one["share"]] for one in asked["columns"][:50]]
    yield "<div class=cards><div class=card>" + "".join(_bar(name, share, most) for name, share in rows[:15])
    yield "</div></div>" + table(("column", "mean share"), rows)


def _bar(name: str, share: float, most: float) -> str:
    return (
        f"<div>{escape(name)}<div title='{share:.6g}' style='background:#2f6fd0;height:.6rem;border-radius:3px;"
        f"width:{max(0.5, 100 * share / most):.1f}%'></div></div>"
    )


def _examples(report: ReportRecord, details: Details) -> Iterable[str]:
    if not details.examples:
        return
    yield (
        "<h2>Where it looks</h2><p class=dim>Red speaks for what is said, blue against it; the gravest errors first. By "
        f"{escape(str(report.explanation.get('method', '')))}.</p><div class=cards>"
    )
    for one in details.examples:
        truth = one["truth"] if isinstance(one["truth"], str) else f"{one['truth']:.4g}"
        said = one["of"] if one["of"] is not None else f"{one['score']:.4g}"
        score = f", score {one['score']:.3f}" if one["of"] is not None else ""
        yield card(f"said {said}, true {truth}", _seen(one), f"{one['method']}{score}")
    yield "</div>"


def _outliers(report: ReportRecord, details: Details) -> Iterable[str]:
    asked = report.outliers
    if not asked:
        return
    told = f"; there {asked['metric']} is <b>{asked['value_beyond']:.4g}</b>" if "value_beyond" in asked else ""
    yield (
        "<h2>Rows far from what it learnt from</h2>"
        f"<p><b>{asked['beyond']:,}</b> of {report.rows + report.left_out:,} rows ({asked['share']:.2%}) are farther than 99 of 100 of those learnt from, where "
        f"{asked['expected']:.0%} is usual (p {asked['p']:.2g}){told}.</p>"
        f"<p class=dim>By {escape(asked['method'])}, fitted on {asked['fitted_on']:,} rows that it learnt from.</p>"
    )
    names = ("nearest", "near", "middle", "far", "farthest")
    fifths = list(zip(names, asked.get("fifths", ()), strict=False))
    if fifths:
        rows = [(name, one["from"], one["to"], one["rows"], one["value"]) for name, one in fifths]
        yield table(("fifth of the rows", "distance from", "to", "rows", asked["metric"]), rows)
    if details.farthest:
        lines = [
            (
                one["row"],
                one["distance"],
                f"{one['share']:.2%}",
                "; ".join(f"{k}: {v}" for k, v in one["unusual"].items()),
            )
            for one in details.farthest
        ]
        yield "<p class=dim>The farthest rows, numbered from 0 as they are read.</p>"
        yield table(("row", "distance", "learnt from as far", "what is unusual"), lines)


def _seen(one: dict[str, Any]) -> str:
    if "words" in one:
        most = max((abs(word["share"]) for word in one["words"]), default=0.0) or 1.0
        return "<p>" + " ".join(_word(word["word"], word["share"], most) for word in one["words"]) + "</p>"
    shown = {"as it is": one["image"], **one["maps"]}
    return (
        "<div class=seen>"
        + "".join(
            f'<figure><img alt="{escape(way, quote=True)}" src="{escape(address, quote=True)}"><figcaption>{escape(way)}</figcaption></figure>'
            for way, address in shown.items()
        )
        + "</div>"
    )


def _word(word: str, share: float, most: float) -> str:
    colour = "200,30,20" if share > 0 else "30,80,200"
    return f'<span title="{share:.4g}" style="background:rgba({colour},{0.6 * abs(share) / most:.2f})">{escape(word)}</span>'
