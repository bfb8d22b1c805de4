"""The dashboard and the alerts ask for metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from leptonai.sdk.dashboards import ALERTS, PANELS, alerts, dashboard
from leptonai.serving.plane.metrics import Labels, Metrics

EXPRESSIONS = [expr for panel in PANELS for expr, _ in panel.lines] + [alert.expr for alert in ALERTS]


def exposed() -> tuple[set[str], set[str]]:
    """Return the names of all metrics and labels, of a plane where everything has happened once."""
    metrics = Metrics(lambda: {Labels("m", "1", "stable", "s"): 1})
    keys = ("rss", "cpu", "connections", "access_dropped", "predictions_dropped", "predictions_kept")
    metrics.process = lambda: {"slot": 0, **dict.fromkeys(keys, 1)}
    series = metrics.of(Labels("m", "1", "stable", "s"))
    series.refused(200, 0.1)
    series.batch.observe(1)
    series.load_seconds = 1.0
    text = metrics.text()
    return set(re.findall(r"^(leptonai\w+)", text, re.MULTILINE)), set(re.findall(r'(\w+)="', text))


def test_every_expression_asks_for_what_there_is() -> None:
    names, labels = exposed()
    for expr in EXPRESSIONS:
        asked = set(re.findall(r"\bleptonai_\w+", expr))
        assert asked <= names and asked
        used = {word.strip() for by in re.findall(r"by \(([^)]*)\)", expr) for word in by.split(",")}
        used |= set(re.findall(r"(\w+)=~?\"", expr))
        assert used <= labels, expr
        assert expr.count("(") == expr.count(")") and expr.count("{") == expr.count("}")


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    made = json.loads(json.dumps(dashboard()))
    assert {panel["title"] for panel in made["panels"]} == {panel.title for panel in PANELS}
    assert len({panel["id"] for panel in made["panels"]}) == len(PANELS)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]}) == len(PANELS)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_prometheus_reads_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(alerts())
    subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yml")], check=True, capture_output=True)
