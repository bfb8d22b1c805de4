"""What comes next in a series: forecasts as estimators of scikit-learn, whose rows are times.

Rows are (rows, columns), float32: at `time` two columns, the days since 1970 and the seconds of the day; at `name`, unless that is -1,
the place of the series from 1 (0: one that is not known, which gets the mean of all). `predict` answers for the `horizon` steps after
the last time that it learnt from, and NaN for every other time.
"""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from leptonai.adapters.frameworks.series_grid import Grid

Array = NDArray[Any]
_SHARES = (
    np.array(  # alpha, beta, gamma, phi of exponential smoothing: level, trend, season, and how fast the trend ends
        [
            (alpha, alpha * beta, gamma * (1 - alpha), phi)
            for alpha in (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
            for beta, phi in ((0.0, 1.0), (0.05, 0.9), (0.05, 0.98), (0.2, 0.9), (0.2, 0.98))
            for gamma in (0.02, 0.1, 0.3)
        ]
    )
)
_SEASONS, _LEAST, _MOST = 12, 200, 8_000  # of the past, smoothing looks at so many seasons, and so many steps


class _Series(RegressorMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """What they share: how rows become a grid of series by steps, and which step a row asks for."""

    columns = "moments"
    time: int
    name: int
    horizon: int
    table_: Array

    def fit(self, x: Array, y: Array) -> Self:
        """Learn from rows and their values (rows,), in any order. Raises `ValueError` for times without a common step."""
        grid = Grid(x, self.time, self.name)
        self.grid_ = grid.facts()
        seen = grid.matrix(np.asarray(y, np.float64))
        self._learn(grid, seen, grid.filled(seen), np.asarray(x))
        return self

    def predict(self, x: Array) -> Array:
        """Return values (rows,), float32; NaN where a row asks for no step within the horizon."""
        given = np.asarray(x, np.float64)
        grid = Grid.of(self.grid_, self.time, self.name)
        ahead, series = grid.steps(given) - grid.length, grid.names(given)
        found = np.full(len(given), np.nan, np.float32)
        known = (ahead >= 0) & (ahead < self.horizon)
        if known.any():
            found[known] = self._said(grid, series[known], ahead[known].astype(np.int64), given[known])
        return found

    @abstractmethod
    def _learn(self, grid: Grid, seen: Array, filled: Array, x: Array) -> None: ...

    def _said(self, grid: Grid, series: Array, ahead: Array, x: Array) -> Array:  # noqa: ARG002  (all but those of lags)
        found: Array = self.table_[series, ahead]
        return found


class Naive(_Series):
    """It will be as it was: a season ago, in the mean of some seasons, or, without `seasonal`, as it was last."""

    def __init__(self, time: int = 0, name: int = -1, horizon: int = 1, seasonal: bool = True, seasons: int = 1):
        self.time = time
        self.name = name
        self.horizon = horizon
        self.seasonal = seasonal
        self.seasons = seasons

    def _learn(self, grid: Grid, seen: Array, filled: Array, x: Array) -> None:  # noqa: ARG002  (as the others)
        season = grid.season(seen) if self.seasonal else 1
        count = max(1, min(self.seasons, filled.shape[1] // season))
        last = filled[:, -season * count :].reshape(len(filled), count, -1).mean(axis=1)
        self.table_ = np.tile(last, -(-self.horizon // last.shape[1]))[:, : self.horizon].astype(np.float32)


class Smoothing(_Series):
    """Exponential smoothing with a season and a damped trend, both added (Holt 1957, Winters 1960, Gardner and McKenzie 1985).

    Its four shares are those, of 120, by which each step of the past was told best from those before. `logs`: of the logarithms, so that
    season and trend are multiplied; values are to be above 0.
    """

    def __init__(self, time: int = 0, name: int = -1, horizon: int = 1, seasonal: bool = True, logs: bool = False):
        self.time = time
        self.name = name
        self.horizon = horizon
        self.seasonal = seasonal
        self.logs = logs

    def _learn(self, grid: Grid, seen: Array, filled: Array, x: Array) -> None:  # noqa: ARG002  (as the others)
        if self.logs and not (filled > 0).all():
            raise ValueError("logarithms are of values above 0, and some are not")
        season = grid.season(seen) if self.seasonal else 1
        values = np.log(filled) if self.logs else filled
        values = values[:, -min(max(_SEASONS * season, _LEAST), _MOST) :]
        said = smoothed(values, season, self.horizon)
        self.table_ = (np.exp(said) if self.logs else said).astype(np.float32)


def smoothed(values: Array, season: int, horizon: int) -> Array:
    """Return forecasts (series, horizon) of values (series, steps) by the shares that told each step of the past best."""
    series, length = values.shape
    season = season if season > 1 and length >= 2 * season else 1
    alpha, beta, gamma, phi = _SHARES.T
    gamma = gamma if season > 1 else np.zeros_like(gamma)
    first = values[:, :season].mean(axis=1)
    level = np.repeat(first[:, None], len(_SHARES), axis=1)
    trend = np.zeros_like(level)
    if season > 1:
        trend += ((values[:, season : 2 * season].mean(axis=1) - first) / season)[:, None]
    cycles = values[:, : max(1, min(3, length // season)) * season].reshape(series, -1, season)
    shape = (cycles - cycles.mean(axis=2, keepdims=True)).mean(axis=1)
    seasonal = np.repeat(shape[:, None, :], len(_SHARES), axis=1)
    trend[:, beta == 0] = 0.0
    errors = np.zeros_like(level)
    for step in range(length):
        phase = step % season
        value, ahead = values[:, step, None], level + phi * trend
        missed = value - ahead - seasonal[:, :, phase]
        if step >= season:
            errors += missed**2
        level = ahead + alpha * missed
        trend = phi * trend + beta * missed
        seasonal[:, :, phase] += gamma * missed
    best = (np.arange(series), errors.argmin(axis=1))
    damped = np.cumsum(phi[best[1]][:, None] ** np.arange(1, horizon + 1), axis=1)
    phases = (length + np.arange(horizon)) % season
    found: Array = level[best][:, None] + damped * trend[best][:, None] + seasonal[best][:, phases]
    return found


class Lagged(_Series):
    """A model of scikit-learn of what was before: the last steps, the same phase of seasons before, the calendar, and how far ahead it is.

    One model for all steps ahead, each told from what is known where the forecast begins (direct), and for all series: of how far a value
    is from the mean of the last season, in units of its series. `known`: columns that are known ahead too, such as holidays.
    `model`: "boosting" or "linear", with `settings`.
    """

    def __init__(
        self, time: int = 0, name: int = -1, horizon: int = 1, known: tuple[int, ...] = (), model: str = "boosting",
        settings: dict[str, Any] | None = None, rows: int = 60_000, random_state: int = 0,
    ):  # fmt: skip
        self.time = time
        self.name = name
        self.horizon = horizon
        self.known = known
        self.model = model
        self.settings = settings
        self.rows = rows
        self.random_state = random_state

    def _learn(self, grid: Grid, seen: Array, filled: Array, x: Array) -> None:
        known = np.full((*seen.shape, len(self.known)), np.nan)
        known[grid.names(x), grid.steps(x).astype(np.int64)] = x[:, list(self.known)]
        self.seasons_ = np.array(sorted({*grid.seasons(), grid.season(seen)} - {1}) or [7], np.int64)
        self.seasons_ = self.seasons_[self.seasons_ * 2 <= grid.length]
        self.window_ = int(min(self.seasons_.max(initial=7), 168, grid.length))
        with np.errstate(invalid="ignore"):
            self.scale_ = np.maximum(np.nanstd(filled, axis=1), 1e-9)
        draw = np.random.default_rng(self.random_state)
        series, step = np.nonzero(np.isfinite(seen))
        chosen = draw.integers(0, len(step), min(self.rows, 12 * len(step)))
        series, step = series[chosen], step[chosen]
        ahead = draw.integers(0, self.horizon, len(step))
        begin = step - ahead
        kept = begin >= min(self.window_, grid.length // 2)
        series, step, ahead, begin = series[kept], step[kept], ahead[kept], begin[kept]
        if len(step) < 10:
            raise ValueError(f"there are too few steps, {grid.length}, to learn how to tell {self.horizon} ahead")
        features, level = self._features(grid, filled, series, begin, ahead, known[series, step])
        self.fitted_ = self._made().fit(features, (seen[series, step] - level) / self.scale_[series])
        self.tail_ = filled[:, -int(max(self.window_ * 2, self.seasons_.max(initial=1) * 2 + self.horizon)) :]

    def _said(self, grid: Grid, series: Array, ahead: Array, x: Array) -> Array:
        begin = np.full(len(series), self.tail_.shape[1])
        known = x[:, list(self.known)]
        features, level = self._features(grid, self.tail_, series, begin, ahead, known, grid.length)
        found: Array = level + self.fitted_.predict(features) * self.scale_[series]
        return found

    def _features(
        self, grid: Grid, values: Array, series: Array, begin: Array, ahead: Array, known: Array, end: int | None = None
    ) -> tuple[Array, Array]:
        """Return what is known where a forecast begins (rows, features), and the level there (rows,).

        `begin`: the place in `values` after the last that is known; `end`: the step of that, where `values` are only the last ones.
        """
        sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
        first = np.maximum(begin - self.window_, 0)
        level = (sums[series, begin] - sums[series, first]) / np.maximum(begin - first, 1)
        before = np.maximum(first - self.window_, 0)
        earlier = np.where(
            first > before, (sums[series, first] - sums[series, before]) / np.maximum(first - before, 1), level
        )

        def at(place: Array) -> Array:
            return np.where(place >= 0, (values[series, np.maximum(place, 0)] - level) / self.scale_[series], np.nan)

        parts = [ahead.astype(float), series.astype(float), (level - earlier) / self.scale_[series]]
        parts += [at(begin - back) for back in (1, 2, 3)]
        for season in self.seasons_.tolist():
            phase = begin + ahead - season * (ahead // season + 1)
            parts += [at(phase), at(phase - season), at(phase + 1 - season * (ahead % season == season - 1))]
        target = (begin if end is None else np.full(len(begin), end)) + ahead
        parts += list(grid.calendar(target).T)
        return np.column_stack([*parts, known]), level

    def _made(self) -> Any:
        settings = dict(self.settings or {})
        if self.model == "linear":
            from sklearn.impute import SimpleImputer
            from sklearn.linear_model import Ridge
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import StandardScaler

            filler = SimpleImputer(keep_empty_features=True)
            return make_pipeline(filler, StandardScaler(), Ridge(**settings))
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(random_state=self.random_state, **settings)
