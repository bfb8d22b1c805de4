"""Rows as people have them."""

import json
import math
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars
import pytest

from leptonai.core.errors import Invalid
from leptonai.sdk import rows


def test_numpy_dates_and_missing_values_become_json() -> None:
    row = {
        "a": np.float32(1.5), "b": np.int64(3), "c": math.nan, "d": date(2026, 1, 2), "e": datetime(2026, 1, 2, tzinfo=UTC),
        "f": np.array([[1, 2], [3, 4]]), "g": None, "h": np.bool_(True), "i": "x", "j": np.float64("nan"),
    }  # fmt: skip
    made = rows.rows(row)[0]
    assert json.loads(json.dumps(made, allow_nan=False)) == {
        "a": 1.5, "b": 3, "c": None, "d": "2026-01-02", "e": "2026-01-02T00:00:00+00:00", "f": [[1, 2], [3, 4]], "g": None,
        "h": True, "i": "x", "j": None,
    }  # fmt: skip


def test_data_frames_are_rows() -> None:
    assert rows.rows(polars.DataFrame({"a": [1, None], "b": ["x", "y"]})) == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]


def test_pandas_frames_are_rows() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, None], "t": [pandas.Timestamp("2026-01-02"), pandas.NaT]})
    assert rows.rows(frame) == [{"a": 1.0, "t": "2026-01-02T00:00:00"}, {"a": None, "t": None}]


@pytest.mark.parametrize("given", [3, "text", None, object()])
def test_what_is_no_rows(given: object) -> None:
    with pytest.raises(Invalid, match="rows must be"):
        rows.rows(given)


def test_a_row_that_is_no_dict_is_named() -> None:
    with pytest.raises(Invalid, match="row 2"):
        rows.rows([{"a": 1}, [1, 2]])
    with pytest.raises(Invalid, match="object"):
        rows.rows([{"a": object()}])


def test_images_are_paths_or_bytes(tmp_path: Path) -> None:
    path = tmp_path / "seven.PNG"
    path.write_bytes(b"\x89PNG\r\n\x1a\nrest")
    assert rows.file(path) == (path.read_bytes(), "image/png")
    assert rows.file(path.read_bytes()) == (path.read_bytes(), "image/png")
    assert rows.file({"a": 1}) is None
    with pytest.raises(Invalid, match=r"nowhere\.png"):
        rows.file(str(tmp_path / "nowhere.png"))
    with pytest.raises(Invalid, match="not an image or sound file"):
        rows.file("churn.csv")
