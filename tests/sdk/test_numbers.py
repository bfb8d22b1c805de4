"""What a live view shows is what Prometheus would say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.errors import Corrupt
from leptonai.sdk.numbers import Look, parse, processes, quantile, rows
from leptonai.serving.plane.metrics import SECONDS, Histogram, Labels, Metrics


def look(metrics: Metrics, time: float) -> Look:
    return Look(parse(metrics.text()), time)


def test_rates_and_times_between_two_looks() -> None:
    labels = Labels("digits", "3", "canary", "shop")
    metrics = Metrics(lambda: {labels: 4})
    metrics.process = lambda: {
        "slot": 0, "rss": 1 << 20, "cpu": 2.5, "connections": 3, "access_dropped": 0, "predictions_dropped": 0,
        "predictions_kept": 0,
    }  # fmt: skip
    series = metrics.of(labels)
    series.refused(200, 0.2)
    before = look(metrics, 10.0)
    for code in (200, 200, 200, 503):
        series.refused(code, 0.004)
    series.batch.observe(2)
    series.batch.observe(4)
    now = look(metrics, 12.0)
    (row,) = rows(before, now)
    assert (row.service, row.variant, row.version, row.model) == ("shop", "canary", "3", "digits")
    assert (row.rate, row.errors, row.queue, row.batch) == (2.0, 0.5, 4.0, 3.0)
    assert row.p50["total"] is not None and 0.0025 <= row.p50["total"] <= 0.005
    assert row.p99["queue"] is None
    (process,) = processes(before, now)
    assert (process.process, process.memory, process.connections, process.cpu) == ("0", 1 << 20, 3.0, 0.0)


def test_a_process_that_began_anew_shows_no_negative_rate() -> None:
    labels = Labels("digits", "3", "stable", "shop")
    one, two = Metrics(dict), Metrics(dict)
    for _ in range(5):
        one.of(labels).count(200)
    two.of(labels).count(200)
    (row,) = rows(look(one, 0.0), look(two, 1.0))
    assert row.rate == 0.0


@given(st.lists(st.floats(1e-5, 9.0), min_size=1, max_size=200), st.sampled_from((0.01, 0.5, 0.9, 0.99)))
def test_a_quantile_lies_within_its_bucket(values: list[float], share: float) -> None:
    histogram = Histogram(SECONDS)
    for value in values:
        histogram.observe(value)
    samples = parse("\n".join(histogram.lines("x", {})))
    found = quantile([(float(s.labels["le"]), s.value) for s in samples if s.name == "x_bucket"], share)
    exact = sorted(values)[max(0, -(-int(share * len(values) * 1000) // 1000) - 1)]
    bounds = [0.0, *SECONDS]
    place = next(place for place, bound in enumerate(bounds[1:]) if exact <= bound)
    assert found is not None
    assert bounds[max(0, place - 1)] <= found <= bounds[min(len(bounds) - 1, place + 2)]


def test_what_is_no_metric_is_refused() -> None:
    with pytest.raises(Corrupt):
        parse("<html>")
    assert parse('a{b="c \\" d"} 1\n# HELP\nb +Inf')[0].labels == {"b": 'c \\" d'}
