"""A report as one HTML page: it fetches nothing, and reads on a phone and on paper.

Plots are SVG that say their numbers when they are pointed at. One script of fixed text moves the threshold and sorts tables; the
policy in the page names its digest, so that no other script runs, and every word from the data is escaped.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from leptonai.evaluation.spec import Details
from leptonai.evaluation.spec import Report as ReportRecord
from leptonai.sdk import report_learning, report_probed, show
from leptonai.sdk import report_plots as plots
from leptonai.sdk.report_parts import card, table
from leptonai.sdk.report_script import SCRIPT

_BETWEEN = {
    "accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "brier", "ece", "r2"
}  # fmt: skip
WORDS = {
    "accuracy": "share of rows whose class is right",
    "precision": "share of what is said to be a class that is; mean over classes",
    "recall": "share of a class that is found; mean over classes",
    "f1": "harmonic mean of precision and recall; mean over classes",
    "log_loss": "mean of −log of the true class's probability; lower is better",
    "brier": "mean squared error of probabilities; lower is better",
    "roc_auc": "chance that one of the class scores above one that is not",
    "average_precision": "mean precision over the rows of the class",
    "ece": "mean distance of scores from shares that are true; lower is better",
    "mae": "mean absolute error; lower is better",
    "rmse": "root of the mean squared error; lower is better",
    "r2": "share of the target's variance that is explained",
}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;background:#fff;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2.2rem 0 .6rem;border-bottom:1px solid #dfe4ea;padding-bottom:.3rem}
table{border-collapse:collapse;font-size:.9rem}td,th{padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:middle}
th{font-weight:600;color:#55606e}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr));gap:1rem}
.card{border:1px solid #dfe4ea;border-radius:8px;padding:.7rem .9rem;overflow:hidden;break-inside:avoid}.card h3{margin:0 0 .3rem;font-size:1rem}
.dim{color:#6b7683;font-size:.85rem}.wide{overflow-x:auto}.grid{stroke:#e6eaef}svg text{fill:#55606e}
.points circle{fill-opacity:0;pointer-events:all}.points circle:hover{fill-opacity:1}
.legend{display:flex;flex-wrap:wrap;gap:.2rem .9rem;font-size:.85rem}.legend i{display:inline-block;width:.8rem;height:.8rem;border-radius:3px;margin-right:.35rem;vertical-align:-1px}
.heat td,.heat th{padding:.35rem .6rem;text-align:center;font-variant-numeric:tabular-nums}.heat th:first-child{text-align:right}
ul.notes{padding-left:1.1rem}.controls{display:flex;flex-wrap:wrap;gap:.4rem 1.4rem;align-items:center;margin:.2rem 0 .8rem}
.controls input[type=range]{width:min(320px,70vw);vertical-align:middle}.controls input[type=number]{width:5.5rem;font:inherit}
.sorts th{cursor:pointer;text-decoration:underline dotted;text-underline-offset:3px}.bad{color:#a3261a}
.seen{display:flex;flex-wrap:wrap;gap:.6rem}.seen figure{margin:0}.seen img{image-rendering:pixelated;max-width:100%}.seen figcaption{font-size:.8rem;color:#6b7683}
@media(max-width:640px){body{margin:1rem auto}.words{display:none}td,th{padding-right:.5rem}}
@media print{body{margin:0;max-width:none;font-size:11pt}.words{display:none}.wide{overflow:visible}.wide table{font-size:8pt}.wide td,.wide th{padding-right:.5rem}.controls{display:none}h2{break-after:avoid}.cards{grid-template-columns:repeat(2,1fr)}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}.sorts th{text-decoration:none}}
"""


def page(
    report: ReportRecord, details: Details, subject: str = "", targets: Mapping[str, Details] | None = None
) -> str:
    """Return the page. `subject`: what was measured, such as ``models:/churn/3``; `targets`: the details of each of several targets."""
    if report.targets:
        return _of_several(report, targets or {}, subject)
    title = f"{subject or report.task.capitalize()} on {report.data or 'a dataset'}"
    rows = f"{report.rows:,} rows" + (f", {report.left_out:,} left out" if report.left_out else "")
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=dim>{escape(report.task)} of {escape(report.target or 'the target')}, {rows}</p>",
        *_notes(report.notes),
        "<h2>How good it is</h2>",
        _metrics(report),
        *report_learning.sections(report),
        *_threshold(report, details),
        *_slices(report, details),
        *_fairness(report, details),
        *report_probed.sections(report, details),
        *_confusion(report),
        *_curves(report, details.curves),
        *_residuals(details.curves.get("residuals")),
        *_classes(report),
    ]
    return document(title, "".join(parts), _data(details), pictures=bool(details.examples))


def _of_several(report: ReportRecord, targets: Mapping[str, Details], subject: str) -> str:
    title = f"{subject or 'Several targets'} on {report.data or 'a dataset'}"
    parts = [f"<h1>{escape(title)}</h1>", f"<p class=dim>{escape(report.target)}, {report.rows:,} rows</p>"]
    for name, one in report.targets.items():
        details = targets.get(name, Details())
        parts += [
            f"<h1>{escape(name)}</h1>",
            f"<p class=dim>{escape(one.task)}</p>",
            *_notes(one.notes),
            "<h2>How good it is</h2>",
            _metrics(one),
            *_slices(one, details),
            *_fairness(one, details),
            *_confusion(one),
            *_curves(one, details.curves),
            *_residuals(details.curves.get("residuals")),
            *_classes(one),
        ]
    return document(title, "".join(parts), {})


def document(title: str, body: str, data: Mapping[str, Any], *, pictures: bool = False) -> str:
    """Return a whole page around a body; `data` is what the script reads, `pictures`: whether some stand in the page."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'{'; img-src data:' if pictures else ''}\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}"
        f'<script type="application/json" id="data">{text}</script><script>{SCRIPT}</script></body></html>\n'
    )


def _data(details: Details) -> dict[str, Any]:
    steps = details.curves.get("thresholds")
    return {} if steps is None else {"thresholds": steps}


def _notes(notes: Sequence[str]) -> Iterable[str]:
    if notes:
        yield f"<h2>What to know first</h2><ul class=notes>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"


def _metrics(report: ReportRecord) -> str:
    share = report.how.get("confidence", 0.95)
    lines = []
    for name, value in report.metrics.items():
        ends = report.intervals.get(name)
        words = "" if ends is None else f"{show.number(ends[0])} to {show.number(ends[1])}"
        drawn = plots.whisker(min(max(value, 0), 1), _inside(ends), 0, 1) if name in _BETWEEN else ""
        lines.append(
            f"<tr><th>{escape(name)}</th><td class=n><b>{escape(show.number(value))}</b></td><td class=n>{escape(words)}</td>"
            f'<td>{drawn}</td><td class="dim words">{escape(WORDS.get(name, ""))}</td></tr>'
        )
    head = f"<tr><th>metric</th><th class=n>value</th><th class=n>{share:.0%} interval</th><th></th><th class=words></th></tr>"
    resamples = report.how.get("resamples", 0)
    how = f"<p class=dim>Intervals: percentile bootstrap, {resamples:,} resamples of the rows, the same for all metrics.</p>"
    return f"<div class=wide><table>{head}{''.join(lines)}</table></div>{how if report.intervals else ''}"


def _inside(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ends is None else (min(max(ends[0], 0), 1), min(max(ends[1], 0), 1))


def _threshold(report: ReportRecord, details: Details) -> Iterable[str]:
    steps, chosen = details.curves.get("thresholds"), report.threshold
    if steps is None:
        return
    yield "<h2>Threshold</h2>"
    name = escape(str(report.how.get("positive", "")))
    if chosen:
        at = "above every score" if chosen["threshold"] is None else f"{chosen['threshold']:.4g}"
        yield (
            f"<p>With a cost of {chosen['costs']['fp']:g} for a false alarm and {chosen['costs']['fn']:g} for a miss, <b>{name}</b> is best "
            f"said from a score of <b>{at}</b>: {chosen['cost']:.4g} a row, where 0.5 costs {chosen['cost_at_half']:.4g}; "
            f"precision {chosen['precision']:.3f}, recall {chosen['recall']:.3f}.</p>"
        )
    costs = chosen.get("costs", {"fp": 1, "fn": 1})
    start = min(1.0, max(0.0, chosen.get("threshold") or 0.5)) if chosen else 0.5
    yield (
        f"<div class=controls><label>{name} from a score of <input type=range id=at min=0 max=100 value={round(100 * start)}> "
        f"<output id=shown></output></label><label>a false alarm costs <input type=number id=fp min=0 step=any value={costs['fp']:g}></label>"
        f"<label>a miss costs <input type=number id=fn min=0 step=any value={costs['fn']:g}></label></div>"
        "<table class=heat id=live></table><p class=dim id=told></p>"
    )


def _slices(report: ReportRecord, details: Details) -> Iterable[str]:
    asked = report.slices
    if not asked:
        return
    yield "<h2>Where it is worst</h2>"
    yield (
        f"<p class=dim>{asked['tested']:,} subgroups of at least {asked['least_rows']:,} rows were tested against the other rows; worse are "
        f"{len(details.slices) or 'none'}, with at most {asked['level']:.0%} expected to be false (Benjamini–Hochberg).</p>"
    )
    rows = [
        (
            " and ".join(f"{name}: {level}" for name, level in one["where"].items()),
            *(one[k] for k in ("rows", "value", "rest", "difference", "q")),
        )
        for one in details.slices
    ]
    if rows:
        yield table(("rows where", "rows", asked["metric"], "elsewhere", "difference", "corrected p"), rows)


def _fairness(report: ReportRecord, details: Details) -> Iterable[str]:
    for column, differences in report.fairness.items():
        groups = [one for one in details.groups if one["column"] == column]
        names = [name for name in groups[0] if name != "column"]
        yield f"<h2>Alike for all of {escape(column)}?</h2>"
        told = ", ".join(f"{name.replace('_', ' ')} <b>{value:.4g}</b>" for name, value in differences.items())
        yield f"<p>Between its groups: {told}. 0 is alike.</p>"
        yield table([name.replace("_", " ") for name in names], [tuple(one[name] for name in names) for one in groups])


def _confusion(report: ReportRecord) -> Iterable[str]:
    if report.confusion and len(report.classes) <= 30:
        yield "<h2>Which class is taken for which</h2>" + plots.confusion(report.classes, report.confusion)


def _curves(report: ReportRecord, curves: Mapping[str, Any]) -> Iterable[str]:
    cards = []
    if curves.get("roc"):
        drawn = plots.curves(curves["roc"], ("false alarms", "found"), "ROC", chance=True)
        cards.append(
            card("ROC", drawn, f"area {report.metrics.get('roc_auc', float('nan')):.4f}; dashed: a coin's throw")
        )
    if curves.get("precision_recall"):
        drawn = plots.curves(curves["precision_recall"], ("recall", "precision"), "Precision and recall")
        cards.append(
            card(
                "Precision and recall",
                drawn,
                f"average precision {report.metrics.get('average_precision', float('nan')):.4f}",
            )
        )
    if found := curves.get("calibration"):
        of = (
            f"score of {report.how['positive']}"
            if report.how.get("positive") is not None
            else "score of the class that is said"
        )
        words = f"{of}; expected error {found['ece']:.4f}, largest {found['mce']:.4f}; bars: how many rows"
        cards.append(card("Calibration", plots.calibration(found), words))
    if cards:
        yield f"<h2>Curves</h2><div class=cards>{''.join(cards)}</div>"


def _residuals(found: Mapping[str, Any] | None) -> Iterable[str]:
    if not found:
        return
    beyond = f"; {found['beyond']:,} rows lie beyond" if found["beyond"] else ""
    quantiles = ", ".join(f"{q} {show.number(v)}" for q, v in found["quantiles"].items())
    left = [true - said for true, said in zip(found["truth"], found["predicted"], strict=True)]
    cards = [
        card(
            "What is left: true − predicted",
            plots.histogram(found["edges"], found["counts"], "residual"),
            quantiles + beyond,
        ),
        card(
            "True and predicted",
            plots.scatter(found["predicted"], found["truth"], ("predicted", "true"), line="diagonal"),
            f"{len(left):,} random rows",
        ),
        card(
            "Residual by what is predicted",
            plots.scatter(found["predicted"], left, ("predicted", "residual"), line="zero"),
            "no pattern is a good sign",
        ),
    ]
    yield f"<h2>Residuals</h2><div class=cards>{''.join(cards)}</div>"


def _classes(report: ReportRecord) -> Iterable[str]:
    if not report.per_class:
        return
    names = list(next(iter(report.per_class.values())))
    rows = [[name, *(values.get(column) for column in names)] for name, values in list(report.per_class.items())[:200]]
    yield "<h2>Class by class</h2>" + table(["class", *names], rows)
