"""A profile as one HTML page: plots are SVG, nothing is fetched when it is looked at, no script runs, every word is escaped."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from leptonai.data.spec_profile import ProfileReport

_WIDE, _HIGH = 320, 90
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;background:#fff;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem;border-bottom:1px solid #dfe4ea;padding-bottom:.3rem}
table{border-collapse:collapse;font-size:.9rem}td,th{padding:.2rem .7rem .2rem 0;text-align:left;vertical-align:top}
th{font-weight:600;color:#55606e}.n{text-align:right;font-variant-numeric:tabular-nums}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:1rem}
.card{border:1px solid #dfe4ea;border-radius:8px;padding:.7rem .9rem;overflow:hidden}.card h3{margin:0;font-size:1rem;overflow-wrap:anywhere}
.dim{color:#6b7683;font-size:.85rem}ul.alerts{padding:0;list-style:none}ul.alerts li{margin:.25rem 0}
.tag{display:inline-block;min-width:6.2rem;padding:0 .5rem;margin-right:.6rem;border-radius:4px;background:#fdecea;color:#8a1c12;font-size:.8rem}
.heat td{padding:.3rem .4rem;text-align:center;font-size:.75rem;min-width:4.6rem}.heat th{white-space:nowrap;font-size:.8rem}
.heat tr:first-child th{text-align:center;padding:.2rem .3rem}.wide{overflow-x:auto}
"""


def page(report: ProfileReport) -> str:
    """Return the page."""
    parts = [
        f"<h1>{escape(report.data)}</h1>",
        f"<p class=dim>{report.rows:,} rows, {len(report.columns)} columns, target: {escape(report.target or 'none')}</p>",
        "<h2>What to look at</h2>",
        _alerts(report),
        "<h2>Columns</h2><div class=cards>",
        *(_card(column, report.target) for column in report.columns),
        "</div>",
        *_target(report),
        *(_heat(word, found) for word, found in report.correlations.items()),
        *_duplicates(report),
        *_drift(report),
    ]
    if report.notes:
        parts.append("<h2>Notes</h2>" + "".join(f"<p class=dim>{escape(note)}</p>" for note in report.notes))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>Profile of {escape(report.data)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _alerts(report: ProfileReport) -> str:
    if not report.alerts:
        return "<p>Nothing stands out.</p>"
    lines = (f"<li><span class=tag>{escape(a.about)}</span>{escape(a.text)}</li>" for a in report.alerts)
    return f"<ul class=alerts>{''.join(lines)}</ul>"


def _card(column: Mapping[str, Any], target: str | None) -> str:
    stats = column["stats"]
    shape = f" {'x'.join(map(str, column['shape']))}" if column["shape"] else ""
    facts = {
        word: stats.get(word)
        for word in ("missing", "unique", "mean", "std", "min", "50%", "max", "mean_length")
        if stats.get(word) is not None
    }
    if column.get("outliers"):
        facts["outliers"] = column["outliers"]["count"]
    words = ", ".join(f"{name} {figure(value)}" for name, value in facts.items())
    title = f"<h3>{escape(column['name'])}{' (target)' if column['name'] == target else ''}</h3>"
    kind = f"<div class=dim>{escape(column['type'])}{escape(shape)}</div>"
    return f"<div class=card>{title}{kind}{_plot(column)}<div class=dim>{escape(words)}</div></div>"


def _plot(column: Mapping[str, Any]) -> str:
    if found := column.get("histogram"):
        return _histogram(found["edges"], found["counts"], found["below"], found["above"])
    counts = column["stats"].get("counts") or []
    return bars([(str(value), count) for value, count in counts[:8]]) if counts else ""


def _histogram(edges: Sequence[Any], counts: Sequence[int], below: int, above: int) -> str:
    most = max(counts, default=0) or 1
    wide = _WIDE / max(1, len(counts))
    rects = "".join(
        f'<rect x="{at * wide:.1f}" y="{_HIGH - _HIGH * count / most:.1f}" width="{max(wide - 1, 0.5):.1f}" '
        f'height="{_HIGH * count / most:.1f}" fill="#3b7dd8"><title>'
        f"{escape(f'{_edge(edges[at])} to {_edge(edges[at + 1])}: {count:,}')}</title></rect>"
        for at, count in enumerate(counts)
    )
    beyond = f", {below + above:,} beyond" if below + above else ""
    text = (
        f'<text x="0" y="{_HIGH + 14}">{escape(_edge(edges[0]))}</text>'
        f'<text x="{_WIDE}" y="{_HIGH + 14}" text-anchor="end">{escape(_edge(edges[-1]) + beyond)}</text>'
    )
    return _svg(rects + text, _HIGH + 20)


def bars(pairs: Sequence[tuple[str, float]]) -> str:
    """Return a plot of named amounts."""
    most = max((value for _, value in pairs), default=0) or 1
    lines = []
    for at, (name, value) in enumerate(pairs):
        y, short = at * 20, name if len(name) <= 18 else f"{name[:17]}…"
        amount = figure(value)
        lines.append(
            f'<text x="0" y="{y + 14}">{escape(short)}</text>'
            f'<rect x="125" y="{y + 3}" width="{130 * value / most:.1f}" height="14" fill="#3b7dd8"><title>{escape(name)}</title></rect>'
            f'<text x="{260 if value else 130}" y="{y + 14}">{escape(amount)}</text>'
        )
    return _svg("".join(lines), 20 * len(pairs) + 2)


def _svg(inside: str, high: float) -> str:
    return f'<svg viewBox="0 0 {_WIDE} {high}" width="100%" font-size="12" fill="#55606e" role="img">{inside}</svg>'


def _edge(value: Any) -> str:
    return value[:10] if isinstance(value, str) else figure(float(value))


def figure(value: Any) -> str:
    """Return a value as people write it: 38.64, 17, 189,664."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if not math.isfinite(value) or 1e-3 > abs(value) > 0 or abs(value) >= 1e9:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 or value.is_integer() else f"{value:.4g}"


def _target(report: ProfileReport) -> Iterable[str]:
    cards = []
    if report.balance:
        pairs = [(str(name), int(count)) for name, count in report.balance["counts"][:12]]
        cards.append(f"<div class=card><h3>Rows by class</h3>{bars(pairs)}</div>")
    if power := report.leakage.get("target"):
        pairs_ = [(str(one["column"]), float(one["score"])) for one in power[:12]]
        cards.append(f"<div class=card><h3>What one column alone tells, 0 to 1</h3>{bars(pairs_)}</div>")
    if cards:
        yield f"<h2>The target, {escape(report.target or '')}</h2><div class=cards>{''.join(cards)}</div>"


def _heat(word: str, found: Mapping[str, Any]) -> str:
    names = found["names"][:25]
    head = "".join(f'<th title="{escape(name)}">{escape(_cut(name, 11))}</th>' for name in names)
    lines = []
    for at, name in enumerate(names):
        cells = "".join(_cell(value) for value in found["values"][at][: len(names)])
        lines.append(f'<tr><th title="{escape(name)}">{escape(_cut(name, 24))}</th>{cells}</tr>')
    title = {"pearson": "Pearson", "spearman": "Spearman", "cramers_v": "Cramér's V"}.get(word, word)
    return f"<h2>Correlation: {escape(title)}</h2><div class=wide><table class=heat><tr><td></td>{head}</tr>{''.join(lines)}</table></div>"


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _cell(value: float | None) -> str:
    if value is None:
        return "<td></td>"
    colour = f"rgba(59,125,216,{abs(value):.2f})" if value >= 0 else f"rgba(200,70,50,{abs(value):.2f})"
    words = ";color:#fff" if abs(value) > 0.6 else ""
    return f'<td style="background:{colour}{words}">{value + 0.0 if abs(value) >= 0.005 else 0:.2f}</td>'


def _duplicates(report: ProfileReport) -> Iterable[str]:
    found, splits = report.duplicates, report.leakage.get("splits") or {}
    rows: list[tuple[str, str]] = [
        ("rows that are there already", f"{found['rows']:,} ({found['share']:.2%})"),
        ("rows that differ from another one in the target only", f"{found['contradictions']:,}"),
    ]
    if splits:
        rows.append(
            (
                f"test rows that are among the training rows ({splits['between']})",
                f"{splits['features']:,} of {splits['of']:,}",
            )
        )
    for name, near in (found.get("near") or {}).items():
        pairs = "; ".join(f"{one['rows'][0]:,} and {one['rows'][1]:,}" for one in near["examples"][:5])
        rows.append(
            (f"images of {name} that look like another one", f"{near['images']:,} of {near['looked_at']:,}: {pairs}")
        )
    yield "<h2>Duplicates</h2>" + _table((), rows)


def _drift(report: ProfileReport) -> Iterable[str]:
    if not report.drift:
        return
    rows = [
        (
            one["column"],
            one["verdict"],
            f"{one['psi']:.3f}",
            one["test"],
            figure(one["statistic"]),
            figure(one["p"]),
        )
        for one in report.drift["columns"]
    ]
    yield f"<h2>Drift since {escape(report.drift['against'])}</h2>"
    yield _table(("column", "verdict", "PSI", "test", "statistic", "p"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table>{f'<tr>{top}</tr>' if head else ''}{body}</table></div>"
