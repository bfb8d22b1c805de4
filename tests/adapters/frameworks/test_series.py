"""Forecasts: they find the season that was planted, and say what they know nothing of."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from tests.support.series import moments, planted, times

from leptonai.adapters.frameworks import skops_file
from leptonai.adapters.frameworks.series import Lagged, Naive, Smoothing
from leptonai.adapters.frameworks.series_grid import Grid

MODELS = [Naive(horizon=12), Smoothing(horizon=12), Lagged(horizon=12), Lagged(horizon=12, model="linear")]
IDS = ["naive", "smoothing", "lags", "linear"]


@pytest.mark.parametrize("model", MODELS, ids=IDS)
@pytest.mark.parametrize(("unit", "season"), [("h", 24), ("D", 7), ("M", 12)])
def test_a_planted_season_is_told_ahead(model: Any, unit: str, season: int) -> None:
    when, y = times("2019-01", 240, unit), planted(240, season, trend=0.0)
    said = model.fit(moments(when[:228]), y[:228]).predict(moments(when[228:]))
    assert np.sqrt(np.mean((said - y[228:]) ** 2)) < 0.35 * np.std(y)
    file = skops_file.read(skops_file.write(model), [])
    assert (file.predict(moments(when[228:])) == said).all()


def test_a_trend_is_gone_on_with() -> None:
    when, y = times("2019-01", 240, "D"), planted(240, 7, trend=0.2)
    errors = [
        np.abs(model.fit(moments(when[:212]), y[:212]).predict(moments(when[212:])) - y[212:]).mean()
        for model in (Naive(horizon=28), Smoothing(horizon=28), Lagged(horizon=28))
    ]
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.7 * errors[0]


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_what_is_known_and_what_is_too_far_is_not_told(model: Any) -> None:
    when, y = times("2019-01", 200, "h"), planted(200, 24)
    model.fit(moments(when[:150]), y[:150])
    asked = np.concatenate(
        [when[[0, 149, 150, 161, 162]], when[[151]] + np.timedelta64(5, "m"), [np.datetime64("NaT")]]
    )
    rows = moments(asked)
    rows[-1] = np.nan
    assert np.isfinite(model.predict(rows)).tolist() == [False, False, True, True, False, False, False]


@pytest.mark.parametrize("model", [m for m in MODELS if not isinstance(m, Lagged)], ids=IDS[:2])
def test_each_series_is_told_by_its_own_past(model: Any) -> None:
    when = times("2019-01", 100, "D")
    rows = np.concatenate([np.column_stack([moments(when), np.full(100, name)]) for name in (1, 2)])
    y = np.concatenate([planted(100, 7), planted(100, 7, seed=1) + 50])
    model.set_params(name=2).fit(rows, y)
    asked = np.column_stack([moments(times("2019-04-11", 3, "D")), [1, 2, 0]])
    said = model.predict(asked)
    model.set_params(name=-1)
    assert said == pytest.approx([22, 72, 47], abs=4)  # and of one that is not known the mean of all


def test_what_is_known_ahead_is_used() -> None:
    draw = np.random.default_rng(0)
    when, sale = times("2019-01", 300, "D"), draw.integers(0, 2, 300)
    y = planted(300, 7, trend=0.0) + 10 * sale
    rows = np.column_stack([moments(when), sale])
    said = Lagged(horizon=14, known=(2,)).fit(rows[:286], y[:286]).predict(rows[286:])
    assert np.sqrt(np.mean((said - y[286:]) ** 2)) < 2


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (times("2019-01", 50, "h")[[*range(30), 29]], "rows 29 and 30 have the same time, 2019-01-02 05:00:00"),
        (
            np.concatenate([times("2019-01", 30, "h"), times("2019-02", 1, "s") + 7_000_000]),
            "row 30: the time .* 1 hour",
        ),
        (times("2019-01", 1, "h"), "no series has two times"),
    ],
    ids=["twice", "between", "one"],
)
def test_times_without_a_common_step_are_told(when: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Naive().fit(moments(when), np.arange(len(when)))


def test_logarithms_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="values above 0"):
        Smoothing(logs=True).fit(moments(times("2019-01", 50, "h")), np.arange(50.0))


@settings(max_examples=30, deadline=None)
@given(
    unit=some.sampled_from(["s", "m", "h", "D", "W", "M", "Y"]),
    first=some.integers(0, 600),
    steps=some.integers(3, 90),
    gone=some.sets(some.integers(1, 80), max_size=10),
)
def test_steps_are_found_whatever_their_unit(unit: str, first: int, steps: int, gone: set[int]) -> None:
    begin = np.datetime64("1980-01-01", "D") + first
    if unit in "MY":
        begin = begin.astype(f"datetime64[{unit}]")
    when = (begin.astype(f"datetime64[{unit}]") + np.arange(steps)).astype("datetime64[us]")
    kept = [place for place in range(steps) if place not in gone or place in (1, steps - 1)]
    if np.bincount(np.diff(kept)).argmax() != 1:
        return
    grid = Grid(moments(when[kept]), 0, -1)
    assert grid.place.tolist() == kept
    again = Grid.of(grid.facts(), 0, -1)
    assert again.steps(moments(when)).tolist() == list(range(steps))
    assert np.isfinite(grid.calendar(np.arange(steps))).all()
