"""Series that are made: a level, a trend, a season, and a little noise."""

import numpy as np


def planted(steps: int, season: int, seed: int = 0, trend: float = 0.02, noise: float = 0.1) -> np.ndarray:
    """Return values (steps,), float64."""
    draw = np.random.default_rng(seed)
    shape = 2 * np.sin(2 * np.pi * np.arange(season) / season) + draw.normal(size=season)
    place = np.arange(steps)
    found: np.ndarray = 20 + trend * place + shape[place % season] + draw.normal(scale=noise, size=steps)
    return found


def times(first: str, steps: int, unit: str) -> np.ndarray:
    """Return times (steps,), datetime64[us], one a unit from the first on: "h", "D", "M"."""
    return (np.datetime64(first, unit) + np.arange(steps)).astype("datetime64[us]")


def moments(when: np.ndarray) -> np.ndarray:
    """Return times as estimators of series take them (rows, 2), float32."""
    seconds = when.astype("datetime64[s]").astype(np.int64)
    return np.stack([seconds // 86_400, seconds % 86_400], axis=1).astype(np.float32)
