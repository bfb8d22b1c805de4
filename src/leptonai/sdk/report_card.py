"""A report as a model card: Markdown under a YAML header, in the form that Hugging Face gave it.

https://huggingface.co/docs/hub/model-cards
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from leptonai.evaluation.spec import Details
from leptonai.evaluation.spec import Report as ReportRecord


def card(report: ReportRecord, details: Details, about: Mapping[str, Any]) -> str:
    """Return the text. `about`: what is known of the model, such as name, framework, run, dataset. Names are quoted, whatever is in them."""
    name = str(about.get("name") or about.get("run") or report.task)
    lines = [*_header(report, about, name), f"# {_plain(name)}", "", _what(report, about), ""]
    lines += ["## Evaluation", "", f"Measured on {_code(report.data)}: {report.rows:,} rows.", ""]
    share = report.how.get("confidence", 0.95)
    rows = [(_code(key), f"{value:.6g}", _ends(report.intervals.get(key))) for key, value in report.metrics.items()]
    lines += [*_table(("Metric", "Value", f"{share:.0%} interval"), rows), ""]
    if report.intervals:
        lines += [f"Intervals: percentile bootstrap, {report.how.get('resamples', 0):,} resamples.", ""]
    if chosen := report.threshold:
        at = "above every score" if chosen["threshold"] is None else f"{chosen['threshold']:.6g}"
        costs = f"{chosen['costs']['fp']:g} for a false alarm and {chosen['costs']['fn']:g} for a miss"
        lines += [f"Threshold for {_code(str(chosen['positive']))}: {at}, at costs of {costs}.", ""]
    if report.per_class and len(report.per_class) <= 50:
        names = list(next(iter(report.per_class.values())))
        body = [
            (
                _code(of),
                *(f"{values[column]:.4g}" if column != "rows" else f"{values[column]:,.0f}" for column in names),
            )
            for of, values in report.per_class.items()
        ]
        lines += ["### Class by class", "", *_table(("Class", *names), body), ""]
    if details.slices:
        lines += [
            "### Where it is worst",
            "",
            *_table(("Rows where", "Rows", str(report.slices["metric"]), "Elsewhere"), _worst(details)),
            "",
        ]
    for column, differences in report.fairness.items():
        lines += [f"### Differences between groups of {_code(column)}", ""]
        lines += [*_table(("Figure", "Largest difference"), [(k, f"{v:.4g}") for k, v in differences.items()]), ""]
    if columns := report.explanation.get("columns"):
        lines += [
            "### What its answers come from",
            "",
            f"Mean size of a column's share ({report.explanation['method']}):",
            "",
        ]
        lines += [
            *_table(("Column", "Share"), [(_code(one["column"]), f"{one['share']:.4g}") for one in columns[:20]]),
            "",
        ]
    if far := report.outliers:
        at = f"; {far['metric']} there: {far['value_beyond']:.4g}" if "value_beyond" in far else ""
        lines += [
            "### Rows far from what it learnt from",
            "",
            f"{far['beyond']:,} rows ({far['share']:.2%}) are farther than 99 of 100 of those learnt from{at}.",
            "",
        ]
    if report.robustness:
        asked = report.robustness
        lines += ["### Spoilt rows", "", f"{asked['metric']}: {asked['clean']:.4g} as they are; at severity 5:", ""]
        last = [(_plain(one["way"]), f"{one['value']:.4g}") for one in asked["told"] if one["severity"] == 5]
        last += [
            (_plain(f"{one['way']} attack"), f"{one['value']:.4g}")
            for one in asked.get("attacks", ())
            if one["severity"] == 5
        ]
        lines += [*_table(("Spoilt by", str(asked["metric"])), last), ""]
    lines += _limits(report, details)
    return "\n".join(lines)


def _header(report: ReportRecord, about: Mapping[str, Any], name: str) -> list[str]:
    dataset = report.data.removeprefix("datasets:/").partition("@")[0]
    lines = ["---", "tags:", "- leptonai", f"- {report.task}"]
    if about.get("framework"):
        lines.append(f"library_name: {json.dumps(about['framework'])}")
    if dataset:
        lines += ["datasets:", f"- {json.dumps(dataset)}"]
    lines += ["metrics:", *(f"- {json.dumps(key)}" for key in report.metrics)]
    lines += [
        "model-index:",
        f"- name: {json.dumps(name)}",
        "  results:",
        "  - task:",
        f"      type: tabular-{report.task}",
    ]
    lines += [
        "    dataset:",
        f"      name: {json.dumps(dataset or 'unknown')}",
        f"      type: {json.dumps(dataset or 'unknown')}",
    ]
    lines += ["    metrics:"]
    for key, value in report.metrics.items():
        lines += [f"    - type: {json.dumps(key)}", f"      value: {value:.10g}"]
    return [*lines, "---", ""]


def _what(report: ReportRecord, about: Mapping[str, Any]) -> str:
    framework = f" ({_plain(str(about['framework']))})" if about.get("framework") else ""
    trained = f" It was trained by run `{about['run']}`." if about.get("run") else ""
    return f"A {report.task} model{framework} that predicts {_code(report.target)}.{trained}"


def _limits(report: ReportRecord, details: Details) -> list[str]:
    notes = list(report.notes)
    if report.left_out:
        notes.append(f"{report.left_out:,} rows are left out of every figure.")
    calibration = details.curves.get("calibration")
    if calibration and calibration["ece"] > 0.05:
        notes.append(
            f"Scores are {calibration['ece']:.2f} away from the shares that are true, on average: do not read them as chances."
        )
    return ["## Limits", "", *(f"- {_plain(note)}" for note in notes), ""] if notes else []


def _worst(details: Details) -> Iterable[tuple[str, ...]]:
    for one in details.slices[:10]:
        where = " and ".join(_code(f"{name}: {level}") for name, level in one["where"].items())
        yield where, f"{one['rows']:,}", f"{one['value']:.4g}", f"{one['rest']:.4g}"


def _ends(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"


def _plain(text: str) -> str:
    """Return text that Markdown takes as it is: neither HTML nor a link comes out of a name."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in " ".join(text.split()))


def _code(text: str) -> str:
    return f"`{json.dumps(text, ensure_ascii=False)[1:-1].replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
