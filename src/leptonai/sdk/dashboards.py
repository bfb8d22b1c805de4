"""What Prometheus and Grafana need to watch Services: a dashboard, and rules for alerts."""

from typing import Any, NamedTuple

_BY = "service, variant, version"
_ASKED = '{service=~"$service"}'


class Panel(NamedTuple):
    """One chart: its title, the unit in Grafana's words, and its lines as (PromQL, legend)."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]


def _quantile(share: float, stage: str) -> str:
    rate = f'rate(leptonai_inference_duration_seconds_bucket{{service=~"$service", stage="{stage}"}}[$__rate_interval])'
    return f"histogram_quantile({share}, sum by ({_BY}, le) ({rate}))"


def _rate(name: str, more: str = "") -> str:
    return f'rate({name}{{service=~"$service"{more}}}[$__rate_interval])'


_REQUESTS, _SECONDS = "leptonai_inference_requests_total", "leptonai_inference_duration_seconds"
_WHO = "{{service}} {{variant}} v{{version}}"

PANELS = (
    Panel("Requests", "reqps", ((f"sum by ({_BY}) ({_rate(_REQUESTS)})", _WHO),)),
    Panel("Errors", "percentunit", (
        (f'sum by ({_BY}) ({_rate(_REQUESTS, ", code=~" + chr(34) + "5.." + chr(34))}) / sum by ({_BY}) ({_rate(_REQUESTS)}) or 0 * sum by ({_BY}) ({_rate(_REQUESTS)})', _WHO),
    )),
    Panel("Answers by status", "reqps", ((f"sum by (code) ({_rate(_REQUESTS)})", "{{code}}"),)),
    Panel("Time of a request", "s", tuple((_quantile(share, "total"), f"{_WHO} p{share * 100:g}") for share in (0.5, 0.99))),
    Panel("Where the time goes", "s", (
        (f"sum by (stage) ({_rate(_SECONDS + '_sum')}) / sum by (stage) ({_rate(_SECONDS + '_count')})", "{{stage}}"),
    )),
    Panel("Waiting", "short", ((f"sum by ({_BY}) (leptonai_queue_depth{_ASKED})", _WHO),)),
    Panel("Rows in a batch", "short", (
        (f"sum by ({_BY}) ({_rate('leptonai_batch_size_sum')}) / sum by ({_BY}) ({_rate('leptonai_batch_size_count')})", _WHO),
    )),
    Panel("Time to load", "s", ((f"max by ({_BY}) (leptonai_model_load_seconds{_ASKED})", _WHO),)),
    Panel("Memory of the plane", "bytes", (("leptonai_plane_resident_memory_bytes", "process {{process}}"),)),
    Panel("Processor of the plane", "percentunit", (
        ("rate(leptonai_plane_cpu_seconds_total[$__rate_interval])", "process {{process}}"),
    )),
    Panel("Connections", "short", (("leptonai_plane_connections", "process {{process}}"),)),
    Panel("Dropped by the logs", "reqps", (
        ("rate(leptonai_access_log_dropped_total[$__rate_interval])", "access log, process {{process}}"),
        ("rate(leptonai_predictions_dropped_total[$__rate_interval])", "prediction log, process {{process}}"),
    )),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return a dashboard as Grafana imports it, with a choice of the data source and of the services."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels = []
    for place, panel in enumerate(PANELS):
        targets = [
            {"datasource": source, "expr": expr, "legendFormat": legend, "refId": chr(65 + number)}
            for number, (expr, legend) in enumerate(panel.lines)
        ]
        panels.append({
            "id": place + 1, "type": "timeseries", "title": panel.title, "datasource": source, "targets": targets,
            "gridPos": {"h": 8, "w": 8, "x": 8 * (place % 3), "y": 8 * (place // 3)},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        })  # fmt: skip
    choices = [
        {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "service", "label": "Service", "type": "query", "datasource": source, "includeAll": True, "multi": True,
            "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "refresh": 2,
            "query": {"query": "label_values(leptonai_inference_requests_total, service)", "refId": "services"},
        },
    ]  # fmt: skip
    return {
        "title": "leptonai services", "uid": "leptonai-services", "schemaVersion": 39, "version": 1, "editable": True,
        "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "", "tags": ["leptonai"],
        "templating": {"list": choices}, "panels": panels, "annotations": {"list": []},
    }  # fmt: skip


class Alert(NamedTuple):
    """One alert: when it fires, after how long, and what it says."""

    name: str
    expr: str
    wait: str
    severity: str
    summary: str


_FAILED = 'sum by (service) (rate(leptonai_inference_requests_total{code=~"5.."}[5m]))'
_EVERY = "sum by (service) (rate(leptonai_inference_requests_total[5m]))"
_LATE = 'sum by (service, le) (rate(leptonai_inference_duration_seconds_bucket{stage="total"}[5m]))'

ALERTS = (
    Alert("LeptonServiceFails", f"{_FAILED} / {_EVERY} > 0.01", "5m", "critical", "More than 1 % of the requests to {{ $labels.service }} fail"),
    Alert("LeptonServiceSlow", f"histogram_quantile(0.99, {_LATE}) > 0.5", "10m", "warning", "1 % of the requests to {{ $labels.service }} take more than 0.5 s"),
    Alert("LeptonServiceTurnsAway", 'sum by (service) (rate(leptonai_inference_requests_total{code=~"429|503"}[5m])) > 0', "5m", "warning", "{{ $labels.service }} turns requests away: it has more to do than it can"),
    Alert("LeptonPlaneGone", "absent(leptonai_plane_resident_memory_bytes)", "2m", "critical", "No serving plane answers"),
    Alert("LeptonPlaneGrows", "deriv(leptonai_plane_resident_memory_bytes[1h]) > 100000", "6h", "warning", "Serving process {{ $labels.process }} grows by more than 100 kB a second"),
    Alert("LeptonPredictionsDropped", "rate(leptonai_predictions_dropped_total[15m]) > 0", "15m", "warning", "The prediction log drops requests: the Site cannot write them as fast as they come"),
)  # fmt: skip


def alerts() -> str:
    """Return the rules as Prometheus reads them (YAML)."""
    lines = ["groups:", "  - name: leptonai", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {_quoted(alert.expr)}",
            f"        for: {alert.wait}",
            f"        labels: {{severity: {alert.severity}}}",
            f"        annotations: {{summary: {_quoted(alert.summary)}}}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
