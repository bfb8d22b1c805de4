"""Features of time series, against pandas, in pieces that come one after the other."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.cleaning import cleaned
from tests.support.imports import Importer

from leptonai.core.errors import Invalid
from leptonai.core.nouns import Dataset


def power(files: Importer, hours: int, stations: int, shard_rows: int, name: str) -> tuple[Dataset, pd.DataFrame]:
    random = np.random.default_rng(hours + stations)
    frame = pd.DataFrame(
        {
            "when": np.repeat(pd.date_range("2026-03-01", periods=hours, freq="h"), stations),
            "station": np.tile([f"s{n}" for n in range(stations)], hours),
            "wind": random.normal(size=hours * stations).round(3),
            "power": random.normal(size=hours * stations).round(3),
        }
    )
    frame.loc[frame.index % 17 == 3, "wind"] = np.nan
    made = files.made(
        {"p.csv": frame.to_csv(index=False)},
        name=name,
        target="power",
        shard_rows=shard_rows,
        types={"station": "category"},
    )
    return made, frame


def expected(frame: pd.DataFrame, lags: tuple[int, ...], windows: tuple[int, ...], horizon: int) -> pd.DataFrame:
    parts = []
    for _, one in frame.groupby("station", sort=False):
        past = max([*lags, *(window - 1 for window in windows), 0])
        found = one.copy()
        for name in ("wind", "power"):
            for rows in lags:
                found[f"{name}_lag_{rows}"] = one[name].shift(rows)
            for rows in windows:
                found[f"{name}_mean_{rows}"] = one[name].rolling(rows, min_periods=1).mean()
        if horizon:
            found[f"power_ahead_{horizon}"] = one["power"].shift(-horizon)
        parts.append(found.iloc[past : len(found) - horizon])
    return pd.concat(parts)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hours=st.integers(12, 60),
    stations=st.integers(1, 4),
    shard_rows=st.integers(5, 90),
    lags=st.sets(st.integers(1, 5), max_size=2).map(tuple),
    windows=st.sets(st.integers(2, 4), max_size=1).map(tuple),
    horizon=st.integers(0, 5),
)
def test_it_is_what_pandas_computes_however_the_rows_come(
    hours: int,
    stations: int,
    shard_rows: int,
    lags: tuple[int, ...],
    windows: tuple[int, ...],
    horizon: int,
    files: Importer,
) -> None:
    if not (lags or windows or horizon):
        return
    made, frame = power(files, hours, stations, shard_rows, f"n{len(files.desk.datasets)}")
    step = {
        "step": "series",
        "time": "when",
        "group": ["station"],
        "lags": lags,
        "windows": windows,
        "horizon": horizon,
    }
    done, report = cleaned(files, made, step)
    assert done is not None
    wanted = expected(frame, lags, windows, horizon)
    assert done.rows == len(wanted) == report.rows_after
    assert done.target == (f"power_ahead_{horizon}" if horizon else "power")
    rows: dict[str, Any] = files.open(done).read()
    found = pd.DataFrame({**rows, "when": pd.to_datetime(rows["when"], unit="us")}).sort_values(["station", "when"])
    wanted = wanted.sort_values(["station", "when"])
    for name in wanted.columns:
        if wanted[name].dtype.kind == "f":
            np.testing.assert_allclose(found[name].to_numpy(float), wanted[name].to_numpy(), atol=1e-9, err_msg=name)
        else:
            assert found[name].tolist() == wanted[name].tolist()


def test_the_calendar_and_rows_without_a_past(files: Importer) -> None:
    made, frame = power(files, 30, 1, 7, "calendar")
    words = ["hour", "weekday", "day", "week", "month", "quarter", "year", "day_of_year"]
    done, _ = cleaned(
        files, made,
        {"step": "series", "time": "when", "columns": ["wind"], "lags": [24], "calendar": words, "incomplete": "missing"},
    )  # fmt: skip
    assert done is not None
    rows = files.open(done).read()
    assert done.rows == 30
    assert np.isnan(rows["wind_lag_24"][:24]).all()
    times = frame["when"].dt
    assert rows["when_hour"].tolist() == times.hour.tolist()
    assert rows["when_weekday"].tolist() == (times.day_of_week + 1).tolist()  # Monday is 1, as in ISO 8601
    assert rows["when_week"].tolist() == times.isocalendar().week.tolist()
    assert rows["when_day_of_year"].tolist() == times.day_of_year.tolist()
    assert "power_lag_24" not in rows


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"time": "wind", "lags": [1]}, "wind"),
        ({"time": "when", "lags": [1], "columns": ["station"]}, "station"),
        ({"time": "when"}, "at least one"),
        ({"time": "when", "lags": [0]}, "lags"),
        ({"time": "when", "lags": [1], "group": ["nothing"]}, "no column 'nothing'"),
        ({"time": "when", "lags": [1]}, "row 2 .* lies before the one above it|rows must come in the order"),
    ],
)
def test_what_cannot_be_a_series_is_named(step: dict[str, Any], words: str, files: Importer) -> None:
    text = "when,station,wind,power\n2026-01-02,a,1.5,2\n2026-01-01,a,2.5,3\n2026-01-03,a,3.5,4\n"
    made = files.made({"t.csv": text}, target="power", types={"station": "category"})
    with pytest.raises((Invalid, ValueError), match=words):
        cleaned(files, made, {"step": "series", **step})


def test_a_series_in_one_word(files: Importer) -> None:
    made, frame = power(files, 60, 2, 30, "words")
    done, _ = cleaned(files, made, "series:when,station=1,24+24")
    assert done is not None
    assert done.target == "power_ahead_24"
    assert done.rows == len(expected(frame, (1, 24), (), 24))
    assert {"power_lag_1", "wind_lag_24", "when_hour", "when_month"} <= {column.name for column in done.columns}
    with pytest.raises(Invalid, match="series:TIME_COLUMN"):
        cleaned(files, made, "series:when=often")
