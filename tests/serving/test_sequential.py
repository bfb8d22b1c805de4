"""The sequential tests do what they state: simulated many times, looked at all the time."""

from math import inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.serving import sequential
from leptonai.serving.sequential import Stream

RUNS, N = 150, 1000
LOOKS = sorted({*range(1, 60), *np.geomspace(60, N, 20).astype(int).tolist()})
BOUNDS = [0.001 * 1.2**k for k in range(40)]


def bound(alpha: float) -> float:
    """What a share of RUNS stays under when its chance is alpha, but for four standard deviations."""
    return float(alpha + 4 * np.sqrt(alpha * (1 - alpha) / RUNS))


def sums(random: np.random.Generator, mean: float, runs: int = RUNS) -> np.ndarray:
    return np.cumsum(random.random((runs, N)) < mean, axis=1)


@pytest.mark.parametrize("mean", [0.0, 0.01, 0.3, 0.97])
def test_two_streams_of_one_mean_are_told_apart_no_more_often_than_stated(mean: float) -> None:
    random = np.random.default_rng(int(mean * 100) + 1)
    one, other = sums(random, mean), sums(random, mean)
    alpha = 0.05
    crossed = {"more": 0, "differ": 0}
    for i in range(RUNS):
        hit = dict.fromkeys(crossed, False)
        for n in LOOKS:
            a, b = Stream(n, float(one[i, n - 1])), Stream(n, float(other[i, n - 1]))
            hit["more"] |= sequential.more(a, b) >= log(1 / alpha)
            hit["differ"] |= sequential.differ(a, b) >= log(1 / alpha)
        for name in crossed:
            crossed[name] += hit[name]
    assert all(count / RUNS <= bound(alpha) for count in crossed.values()), crossed


def test_a_version_worse_by_the_margin_is_called_fine_no_more_often_than_stated() -> None:
    random = np.random.default_rng(3)
    alpha, margin = 0.05, 0.05
    one, other = sums(random, 0.06), sums(random, 0.01)
    wrong = 0
    for i in range(RUNS):
        looks = ((Stream(n, float(one[i, n - 1])), Stream(n, float(other[i, n - 1]))) for n in LOOKS[::4])
        wrong += any(sequential.less(a, b, margin) >= log(1 / alpha) for a, b in looks)
    assert wrong / RUNS <= bound(alpha)


@pytest.mark.parametrize("mean", [0.02, 0.5, 0.9])
def test_a_confidence_sequence_misses_the_mean_no_more_often_than_stated(mean: float) -> None:
    random = np.random.default_rng(7)
    made = sums(random, mean)
    alpha, missed = 0.05, 0
    for i in range(RUNS):
        missed += any(
            not low <= mean <= high
            for n in LOOKS[::3]
            for low, high in [sequential.interval(Stream(n, float(made[i, n - 1])), alpha)]
        )
    assert missed / RUNS <= bound(alpha)


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_a_quantile_is_missed_no_more_often_than_stated_also_of_values_between(q: float) -> None:
    random = np.random.default_rng(11)
    alpha, missed, runs = 0.05, 0, 100
    true = float(np.exp(0.6 * {0.5: 0.0, 0.95: 1.6448536}[q] - 4))
    for _ in range(runs):
        where = np.searchsorted(BOUNDS, np.exp(0.6 * random.standard_normal(N) - 4))
        hit = False
        for n in LOOKS[::6]:
            counts = np.bincount(where[:n], minlength=len(BOUNDS) + 1).tolist()
            low, high = sequential.quantile(counts, BOUNDS, q, alpha)
            hit |= not (low <= true <= high * 1.0000001)
        missed += hit
    assert missed / runs <= alpha + 4 * np.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize(
    ("bad", "share", "within"), [(0.05, 0.01, 300), (0.05, 0.25, 500), (0.5, 0.05, 20), (1.0, 0.01, 6)]
)
def test_a_version_that_fails_is_found_after_few_of_its_requests(bad: float, share: float, within: int) -> None:
    """At the strictness of one of four tests in one of five steps of a rollout with alpha 0.01."""
    random = np.random.default_rng(5)
    found = 0
    for _ in range(RUNS):
        failed = np.cumsum(random.random(within) < bad)
        good = [int(n / share * (1 - share)) for n in range(1, within + 1)]
        found += any(
            sequential.more(Stream(n, float(failed[n - 1])), Stream(good[n - 1], 0.0)) >= log(20 / 0.01)
            for n in range(1, within + 1)
        )
    assert found / RUNS > 0.98


@given(st.integers(0, 5000), st.floats(0, 1), st.floats(0.001, 0.2))
def test_an_interval_is_around_the_mean_and_narrows(count: int, share: float, alpha: float) -> None:
    seen = Stream(count, count * share)
    low, high = sequential.interval(seen, alpha)
    assert 0 <= low <= seen.mean + 1e-9
    assert seen.mean - 1e-9 <= high <= 1
    wider = sequential.interval(seen, alpha / 10)
    assert wider[0] <= low + 1e-9
    assert high <= wider[1] + 1e-9


@given(st.integers(0, 300), st.floats(0, 1), st.integers(0, 300), st.floats(0, 1), st.floats(0, 0.5))
def test_evidence_says_one_thing_only(n: int, p: float, m: int, q: float, margin: float) -> None:
    one, other = Stream(n, n * p), Stream(m, m * q)
    worse, fine = sequential.more(one, other, margin), sequential.less(one, other, margin)
    assert min(worse, fine) <= 1e-6
    assert sequential.differ(one, other) == pytest.approx(sequential.differ(other, one), abs=1e-6)
    assert 0 <= sequential.p_value(worse) <= 1


@given(st.integers(1, 2000), st.floats(0.001, 0.999), st.integers(0, 2000))
def test_the_least_over_all_means_is_the_least(n: int, mean: float, hits: int) -> None:
    one, other = Stream(n, min(n, hits) * 0.5), Stream(2 * n, min(n, hits) * 0.25)
    assert sequential.differ(one, other) <= sequential.against(mean, one) + sequential.against(mean, other) + 1e-6


def test_nothing_seen_says_nothing() -> None:
    nothing = Stream()
    assert sequential.interval(nothing, 0.05) == (0.0, 1.0)
    assert sequential.more(nothing, Stream(100, 0)) <= 0
    assert sequential.differ(nothing, nothing) == 0
    assert sequential.p_value(-3.0) == 1.0
    assert sequential.quantile([0] * 41, BOUNDS, 0.5, 0.05) == (0.0, inf)
