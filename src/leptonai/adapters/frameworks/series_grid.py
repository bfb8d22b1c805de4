"""The steps of a series: seconds, or months, by which its times lie apart; and what the calendar says of each."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_DAY, _WEEK = 86_400, 604_800
_MONTH = 27 * _DAY  # steps that are longer are of months
_CELLS = 50_000_000  # of a grid: series by steps
_LEAST = 0.1  # the autocorrelation of a season


class Grid:
    """Times as steps from the first one on, and rows as cells of a grid. Raises `ValueError` for times without a common step."""

    def __init__(self, x: Array, time: int, name: int):
        self._time, self._name = time, name
        given = np.asarray(x, np.float64)
        stamps, self.series = self._stamps(given), self.names(given)
        if not len(stamps):
            raise ValueError("there are no times")
        self.months, self.seconds = _step(stamps, self.series)
        self.start = int(stamps.min())
        self.length = 1
        place = self._place(stamps)
        off = place != np.round(place)
        if off.any():
            row = int(off.argmax())
            raise ValueError(
                f"row {row}: the time {words(stamps[row])} is not on the steps of {self.step}, which most rows have from "
                f"{words(self.start)} on: round the times, sum them up to even steps, or leave such rows out"
            )
        self.place = place.astype(np.int64)
        self.length = int(self.place.max()) + 1
        if (int(self.series.max()) + 1) * self.length > _CELLS:
            raise ValueError(
                f"{int(self.series.max())} series of {self.length:,} steps of {self.step} are too many to be held at once"
            )

    @classmethod
    def of(cls, facts: Mapping[str, int], time: int, name: int) -> Self:
        """Make it of its `facts`."""
        made = cls.__new__(cls)
        made._time, made._name = time, name
        made.start, made.length, made.months, made.seconds = (
            int(facts[part]) for part in ("start", "length", "months", "seconds")
        )
        return made

    def facts(self) -> dict[str, int]:
        """Return what it is made of again."""
        return {"start": self.start, "length": self.length, "months": self.months, "seconds": self.seconds}

    @property
    def step(self) -> str:
        """The step in words."""
        if self.months:
            return f"{self.months} month{'s' * (self.months > 1)}"
        for unit, size in (("week", _WEEK), ("day", _DAY), ("hour", 3600), ("minute", 60), ("second", 1)):
            if self.seconds % size == 0:
                count = self.seconds // size
                return f"{count} {unit}{'s' * (count > 1)}"
        return ""

    @property
    def ahead(self) -> int:
        """How many steps are told ahead where nobody says: a week of hours, four of days, half a year of weeks, a year of months."""
        if self.months:
            return max(1, 12 // self.months)
        return 26 if self.seconds == _WEEK else 28 if self.seconds >= _DAY else max(1, _WEEK // self.seconds)

    def names(self, x: Array) -> Array:
        """Return the place of each row's series (rows,), int64."""
        return np.ones(len(x), np.int64) if self._name < 0 else np.asarray(x)[:, self._name].astype(np.int64)

    def steps(self, x: Array) -> Array:
        """Return the step of each row's time from the first on (rows,), float64; NaN between two steps."""
        stamps = self._stamps(np.asarray(x, np.float64))
        place = self._place(stamps)
        place[(place != np.round(place)) | (stamps == _NONE)] = np.nan
        return place

    def _stamps(self, x: Array) -> Array:
        """Return seconds since 1970, int64."""
        days, rest = x[:, self._time], x[:, self._time + 1]
        known = np.isfinite(days)
        seconds = np.where(known, days, 0.0) * _DAY + np.round(np.where(known, rest, 0.0))
        found: Array = np.where(known, seconds, _NONE).astype(np.int64)
        return found

    def _place(self, stamps: Array) -> Array:
        if not self.months:
            return np.asarray((stamps - self.start) / self.seconds)
        given, first = _Months(stamps), _Months(np.array([self.start]))
        place = (given.number - first.number[0]) / self.months
        same = (given.rest == first.rest[0]) | (given.last & first.last[0])
        found: Array = np.where(same, place, place + 0.5)
        return found

    def matrix(self, y: Array) -> Array:
        """Return values (series + 1, steps), NaN where there is none; the first row is the mean of all series."""
        found = np.full((int(self.series.max()) + 1, self.length), np.nan)
        found[self.series, self.place] = y
        if len(found) > 1:
            there = np.isfinite(found[1:])
            total = np.where(there, found[1:], 0.0).sum(axis=0)
            count = there.sum(axis=0)
            found[0] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return found

    def filled(self, seen: Array) -> Array:
        """Return values without gaps: on the line between the two beside one, before the first and after the last as those."""
        found = np.empty_like(seen)
        steps = np.arange(seen.shape[1])
        for row, values in enumerate(seen):
            there = np.isfinite(values)
            found[row] = np.interp(steps, steps[there], values[there]) if there.any() else 0.0
        return found

    def seasons(self) -> tuple[int, ...]:
        """Return how many steps a day, a week or a year has, where it has at least 2 and there are two of them."""
        if self.months:
            found = [12 // self.months] if 12 % self.months == 0 else []
        else:
            found = [size // self.seconds for size in (_DAY, _WEEK) if size % self.seconds == 0]
            found += [52] if self.seconds == _WEEK else [365] if self.seconds == _DAY else []
        return tuple(season for season in found if 2 <= season <= self.length // 2)

    def season(self, seen: Array) -> int:
        """Return the season by which the series repeat most: of the calendar, or any where the step fits none; 1: by none.

        By the autocorrelation of what changes from one step to the next, so that a trend is no season.
        """
        known = self.seasons()
        asked = known or tuple(range(2, min(400, self.length // 3) + 1))
        values = self.filled(seen[: 20 + 1])
        moves = np.diff(values, axis=1)
        moves -= moves.mean(axis=1, keepdims=True)
        power = (moves**2).sum(axis=1)
        moves, power = moves[power > 0], power[power > 0]
        if not asked or not len(moves):
            return 1
        score = {
            season: float(((moves[:, season:] * moves[:, :-season]).sum(axis=1) / power).mean()) for season in asked
        }
        best = max(asked, key=lambda season: score[season])
        return best if score[best] > max(_LEAST, 2 / np.sqrt(moves.shape[1])) else 1

    def calendar(self, steps: Array) -> Array:
        """Return of each step (rows, 5): seconds of the day, day of the week, of the month, of the year, and the month."""
        if self.months:
            first = np.datetime64(self.start, "s").astype("datetime64[M]")
            month = (first + steps * self.months).astype("datetime64[M]")
            days = month.astype("datetime64[D]")
        else:
            moments = np.datetime64(self.start, "s") + (steps * self.seconds).astype("timedelta64[s]")
            days, month = moments.astype("datetime64[D]"), moments.astype("datetime64[M]")
        number = days.astype(np.int64)
        seconds = np.zeros(len(number)) if self.months else (self.start + steps * self.seconds) % _DAY
        return np.column_stack(
            [
                seconds,
                (number + 3) % 7,
                number - month.astype("datetime64[D]").astype(np.int64),
                number - days.astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64),
                month.astype(np.int64) % 12,
            ]
        ).astype(np.float64)


_NONE = -(2**62)  # no time


class _Months:
    """Times by their month: its number since 1970, the seconds since it began, and whether it is the last day."""

    def __init__(self, stamps: Array):
        moments = np.where(stamps == _NONE, 0, stamps).astype("datetime64[s]")
        months = moments.astype("datetime64[M]")
        self.number = months.astype(np.int64)
        self.rest = (moments - months.astype("datetime64[s]")).astype(np.int64)
        after = (months + 1).astype("datetime64[D]")
        self.last = moments.astype("datetime64[D]") == after - 1


def _step(stamps: Array, series: Array) -> tuple[int, int]:
    """Return the step as months, or as seconds; the other one is 0. Raises `ValueError` where a time is there twice."""
    order = np.lexsort((stamps, series))
    apart = np.diff(stamps[order])
    same = np.diff(series[order]) == 0
    if (twice := same & (apart == 0)).any():
        place = int(twice.argmax())
        rows = sorted((int(order[place]), int(order[place + 1])))
        raise ValueError(
            f"rows {rows[0]} and {rows[1]} have the same time, {words(stamps[rows[0]])}, in one series: keep one of them, or their mean"
        )
    if not same.any():
        raise ValueError("no series has two times")
    sizes, counts = np.unique(apart[same], return_counts=True)
    size = int(sizes[counts.argmax()])
    if size <= _MONTH or (apart[same] <= _MONTH).any():
        return 0, size
    months = np.diff(_Months(stamps[order]).number)[same]
    sizes, counts = np.unique(months, return_counts=True)
    return int(sizes[counts.argmax()]), 0


def words(stamp: int) -> str:
    """Return a time as people write it."""
    return str(np.datetime64(int(stamp), "s")).replace("T", " ").removesuffix(" 00:00:00")
