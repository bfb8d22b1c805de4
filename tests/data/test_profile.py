"""Profiles of real rows: what is planted in them is found, and figures are those of pandas and SciPy."""

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from tests.support.cleaning import Desk
from tests.support.imports import Importer, npz

from leptonai.core.nouns import Dataset
from leptonai.core.refs import DatasetRef
from leptonai.data.look_verbs import prepare_profile
from leptonai.data.profile_work import profile
from leptonai.data.profiling import drift, relations
from leptonai.data.spec_profile import Profile, ProfileReport
from leptonai.sdk.profiles import Profiled

ROWS = 2000


def profiled(files: Importer, data: str, **options: Any) -> ProfileReport:
    desk: Any = Desk(files)
    for known in files.desk.datasets:
        files.handle.datasets[f"datasets:/{known.name}@v{known.version}"] = files.open(known)  # type: ignore[assignment]
    plan = prepare_profile(Profile(data=data, **options), desk)
    result = profile(Profile.model_validate(plan.spec), files.handle)
    return ProfileReport.model_validate_json(files.handle.read(result["report"]))


def frame_of(seed: int, shift: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(shift, 1, ROWS)
    label = (x + random.normal(size=ROWS) > shift + 1.5).astype(int)
    return pd.DataFrame(
        {
            "x": np.where(np.arange(ROWS) % 10 == 0, np.nan, x),
            "twin": x * 3 + 1,
            "heavy": np.where(np.arange(ROWS) % 40 == 0, 1e6, random.normal(size=ROWS)),
            "city": random.choice(["oslo", "rome", "<b>lima</b>"], ROWS, p=[0.6 - shift / 4, 0.3, 0.1 + shift / 4]),
            "same": 7,
            "outcome": np.where(label == 1, "paid", "open"),
            "when": pd.date_range("2026-01-01", periods=ROWS, freq="1h").astype(str),
            "note": [f"text {i % 37}" for i in range(ROWS)],
            "label": label,
        }
    )


@pytest.fixture
def made(files: Importer) -> Dataset:
    frame = frame_of(0)
    frame = pd.concat([frame, frame.head(30), frame.head(5).assign(label=1 - frame["label"].head(5))])
    return files.made(
        {"t.csv": frame.to_csv(index=False)}, name="t", shard_rows=300, types={"note": "text", "city": "category"}
    )


def test_what_is_planted_is_found(files: Importer, made: Dataset) -> None:
    found = profiled(files, "t@v1")
    told = {(alert.about, alert.column) for alert in found.alerts}
    assert {
        ("leakage", "outcome"), ("leakage", ""), ("duplicates", ""), ("missing", "x"), ("constant", "same"),
        ("outliers", "heavy"), ("correlation", "twin"),
    } <= told  # fmt: skip
    assert ("leakage", "x") not in told
    assert found.duplicates["rows"] == 30
    assert found.duplicates["contradictions"] == 5
    assert 0 < found.leakage["splits"]["features"] <= 35
    assert found.balance["classes"] == 2
    frame = pd.DataFrame(files.open(made).read())
    columns = {column["name"]: column for column in found.columns}
    low, high = columns["heavy"]["outliers"]["low"], columns["heavy"]["outliers"]["high"]
    assert columns["heavy"]["outliers"]["count"] == ((frame["heavy"] < low) | (frame["heavy"] > high)).sum()
    for name in ("x", "heavy", "when", "note"):
        histogram = columns[name]["histogram"]
        assert sum(histogram["counts"]) + histogram["below"] + histogram["above"] == frame[name].notna().sum(), name
    names = found.correlations["pearson"]["names"]
    numbers = frame[names].astype(float)
    for method in ("pearson", "spearman"):
        np.testing.assert_allclose(
            np.array(found.correlations[method]["values"], float), numbers.corr(method), atol=1e-6
        )


def test_drift_is_that_of_scipy(files: Importer, made: Dataset) -> None:
    frame = frame_of(1, shift=1.0)
    files.made({"t.csv": frame.to_csv(index=False)}, name="t", types={"note": "text", "city": "category"})
    found = profiled(files, "t@v2", against="t@v1")
    moved = {one["column"]: one for one in found.drift["columns"]}
    assert moved["x"]["verdict"] == "drifted"
    assert moved["city"]["verdict"] in ("shifted", "drifted")
    assert moved["heavy"]["verdict"] == "same"
    old = files.open(made).read(("x",))["x"]
    test = stats.ks_2samp(old[np.isfinite(old)], frame["x"].dropna())
    assert moved["x"]["statistic"] == pytest.approx(test.statistic, abs=1e-6)
    assert ("drift", "x") in {(alert.about, alert.column) for alert in found.alerts}
    assert drift.stability(np.array([50, 50]), np.array([30, 70])) == pytest.approx(0.169460)  # by hand


def test_cramers_v_is_that_of_the_table() -> None:
    random = np.random.default_rng(0)
    one = random.integers(0, 3, 5000)
    assert relations.cramers_v(one, one) == pytest.approx(1.0, abs=1e-3)
    assert relations.cramers_v(one, random.integers(0, 4, 5000)) == pytest.approx(0.0, abs=0.03)
    assert relations.cramers_v(one, np.zeros(5000, int)) is None


def test_a_part_is_counted_by_itself(files: Importer, made: Dataset) -> None:
    train = "t@v1?part=train&train_size=0.7"
    found = profiled(files, train, test="t@v1?part=test&train_size=0.7", sample=500)
    reader = files.open(made, *DatasetRef.parse(train).splits)
    x = reader.read(("x",))["x"]
    column = next(one for one in found.columns if one["name"] == "x")
    assert (found.rows, found.sample) == (reader.rows, 500)
    assert column["stats"]["mean"] == pytest.approx(np.nanmean(x))
    assert found.leakage["splits"]["of"] == made.rows - reader.rows
    assert found.leakage["splits"]["rows"] > 0
    assert "told from 500 rows" in found.notes[-1]


def test_images_that_look_alike(files: Importer) -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (40, 9, 9, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(one).resize((48, 40), Image.Resampling.BICUBIC)) for one in coarse])
    images = images.copy()
    images[30:35] = np.clip(images[:5].astype(int) + random.integers(-9, 9, images[:5].shape), 0, 255)
    files.made({"i.npz": npz(x=images, y=np.arange(40) % 2)}, name="i", shard_rows=7)
    near = profiled(files, "i").duplicates["near"]["x"]
    assert (near["looked_at"], near["images"]) == (40, 5)
    assert sorted(one["rows"] for one in near["examples"]) == [[n, n + 30] for n in range(1, 6)]


def test_the_page_is_whole_and_escaped(files: Importer, made: Dataset, tmp_path: Any) -> None:
    files.made({"t.csv": "<script>alert(1)</script>,y\n" + "1,0\n2,1\n" * 300}, name="evil")
    for name in ("t", "evil"):
        found = Profiled(profiled(files, name, against=name))
        text = found.html(tmp_path / "p.html")
        assert (tmp_path / "p.html").read_text("utf-8") == text
        opened: list[str] = []

        class Tags(HTMLParser):
            def handle_starttag(self, tag: str, attributes: Any, opened: Any = opened) -> None:
                opened.append(tag)
                assert not {name for name, _ in attributes} & {"src", "href", "onload", "onclick"}

        Tags().feed(text)
        assert "svg" in opened
        assert not {"script", "b", "img", "link", "iframe"} & set(opened)
        assert "default-src 'none'" in text
        assert name in repr(found)
        assert "<table>" in found._repr_html_()
        assert found.to_dict()["rows"] == found.record.rows


def test_personal_columns_are_not_looked_at(files: Importer) -> None:
    text = "name,age,y\n" + "".join(f"Ann{i % 7},{20 + i % 9},{i % 2}\n" for i in range(300))
    files.made({"t.csv": text}, name="p", pii=("name",))
    for data in ("p", "p?part=train&train_size=0.5"):
        found = profiled(files, data)
        assert "Ann" not in found.model_dump_json()
        assert [column["name"] for column in found.columns] == ["age", "y", "name"]
        assert found.notes[-1] == "personal columns are not looked at: name"


def test_what_may_stand_for_nothing_is_told_and_a_column_that_only_shifts_the_odds_tells_something(
    files: Importer,
) -> None:
    random = np.random.default_rng(0)
    married = random.random(ROWS) < 0.5
    rich = random.random(ROWS) < np.where(married, 0.45, 0.05)  # never the likelier answer
    frame = pd.DataFrame({
        "state": np.where(married, "married", "single"), "work": random.choice(["office", "?", "shop"], ROWS),
        "rich": np.where(rich, "yes", "no"),
    })  # fmt: skip
    files.made({"t.csv": frame.to_csv(index=False)}, name="t", target="rich")
    found = profiled(files, "t@v1")
    assert any(alert.column == "work" and "blank:work=?" in alert.text for alert in found.alerts)
    power = {one["column"]: one["score"] for one in found.leakage["target"]}
    assert power["state"] > 0.4 and power["work"] < 0.1
    page = Profiled(found).html()
    assert f"{int(rich.sum()):,}" in page and "e+0" not in page
