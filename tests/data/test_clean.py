"""Cleaning: what each step does to real rows, what it tells, and that what comes in pieces is as if it came at once."""

import gzip
import json
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter
from tests.support.cleaning import Desk, cleaned
from tests.support.imports import Importer, npz

from leptonai.core.errors import Invalid
from leptonai.core.nouns import Dataset
from leptonai.data.clean_words import step
from leptonai.data.spec_clean import Clean

ROWS = 1000


@pytest.fixture
def people(files: Importer) -> Dataset:
    """A table with what tables have: gaps, duplicates, outliers, rare words, spaces."""
    lines = ["age,income,city,note,member,day,label"]
    for i in range(ROWS):
        age = "" if i % 10 == 3 else 20 + i % 50
        income = 1e6 if i == 77 else 1000 + i % 97
        city = "" if i % 25 == 4 else ("oslo", "rome", "lima")[i % 3] if i % 100 else f"c{i}"
        lines.append(f"{age},{income},{city}, Ｔest  {i % 7}\u00a0x ,{i % 2 == 0},2026-01-{i % 28 + 1:02},{i % 2}")
    lines += lines[1:21]
    return files.made({"people.csv": "\n".join(lines)}, name="people", shard_rows=128, types={"city": "category"})


def rows_of(files: Importer, dataset: Dataset | None) -> dict[str, Any]:
    assert dataset is not None
    return files.open(dataset).read()


def test_duplicates_leave_and_the_lineage_says_so(files: Importer, people: Dataset) -> None:
    made, report = cleaned(files, people, "drop_duplicates")
    assert made is not None
    assert (made.name, made.version, made.rows, made.target) == ("people", 2, ROWS, "label")
    assert made.source == {
        "dataset": "datasets:/people@v1",
        "digest": people.digest,
        "steps": [{"step": "drop_duplicates"}],
    }
    assert [(c.name, c.type, c.dtype) for c in made.columns] == [(c.name, c.type, c.dtype) for c in people.columns]
    (step,) = report.steps
    assert (step.rows_before, step.rows_after) == (ROWS + 20, ROWS)
    assert step.examples[0]["row"] == ROWS + 1
    assert step.examples[0]["left_out"]["age"] == 20
    old, new = files.open(people).read(), rows_of(files, made)
    for name, values in new.items():
        np.testing.assert_array_equal(values, old[name][:ROWS], err_msg=name)


def test_a_dry_run_tells_the_same_and_makes_nothing(files: Importer, people: Dataset) -> None:
    steps = ("drop_duplicates", "impute:age=mean", "impute:city=most_frequent", "clip:income=iqr")
    before = len(files.desk.datasets)
    nothing, told = cleaned(files, people, *steps, dry_run=True)
    assert nothing is None
    assert len(files.desk.datasets) == before
    made, done = cleaned(files, people, *steps)
    assert told == done
    ages = files.open(people).read()["age"][:ROWS]
    assert done.steps[1].learnt == {"age": round(float(np.nanmean(ages)))}
    assert done.steps[1].changed == {"age": int(np.isnan(ages).sum())}
    assert done.steps[1].examples[0] == {
        "row": 4,
        "column": "age",
        "before": None,
        "after": done.steps[1].learnt["age"],
    }
    new = rows_of(files, made)
    assert new["age"].dtype == np.int64
    assert made is not None
    assert made.source["steps"][1]["learnt"] == done.steps[1].learnt
    _low, high = done.steps[3].learnt["income"]
    assert new["income"].max() == high < 1e6
    assert done.steps[3].changed == {"income": 1}
    assert done.steps[3].examples[0]["before"] == 1_000_000
    assert None not in new["city"].tolist()


def test_steps_learn_from_what_the_steps_before_leave(files: Importer) -> None:
    """The mean is that of the clipped values, and the bound that of the values that were filled in."""
    values = np.array([1.0, 2.0, 3.0, 4.0, 1000.0, np.nan] * 50)
    data = files.made({"t.csv": "x,y\n" + "".join(f"{'' if v != v else v},1.5\n" for v in values)}, shard_rows=64)
    made, report = cleaned(
        files,
        data,
        {"step": "outliers", "columns": ["x"], "by": "quantiles", "between": [0.0, 0.75]},
        {"step": "impute", "columns": ["x"], "by": "mean"},
        {"step": "outliers", "columns": ["x"], "by": "zscore", "factor": 1.0, "do": "flag"},
    )
    low, high = np.quantile(values[np.isfinite(values)], [0.0, 0.75])
    clipped = np.clip(values, low, high)
    filled = np.where(np.isnan(clipped), np.nanmean(clipped), clipped)
    found = rows_of(files, made)
    np.testing.assert_allclose(found["x"], filled)
    away = np.abs(filled - filled.mean()) > filled.std()
    assert found["x_outlier"].tolist() == away.tolist()
    assert report.steps[2].changed == {"x_outlier": int(away.sum())}


def test_what_a_part_teaches_is_applied_to_all(files: Importer, people: Dataset) -> None:
    part = "people@v1?part=train&train_size=0.5&seed=3"
    _, report = cleaned(files, people, "impute:age=mean", learn_from=part)
    from leptonai.core.refs import DatasetRef

    ages = files.open(people, *DatasetRef.parse(part).splits).read(("age",))["age"]
    assert report.steps[0].learnt == {"age": round(float(np.nanmean(ages)))}
    assert report.steps[0].changed["age"] == int(np.isnan(files.open(people).read(("age",))["age"]).sum())


def test_text_types_columns_and_categories(files: Importer, people: Dataset) -> None:
    made, report = cleaned(
        files,
        people,
        {"step": "text", "columns": ["note"], "unicode": "NFKC", "case": "lower"},
        "cap_categories:city=2",
        "rename:income=salary",
        "cast:salary=number",
        "drop:day",
        "impute:age=drop",
        "select:label,city,note,salary,age",
    )
    assert made is not None
    assert [c.name for c in made.columns] == ["label", "city", "note", "salary", "age"]
    assert made.target == "label"
    found = rows_of(files, made)
    assert set(found["note"]) == {f"test {n} x" for n in range(7)}
    assert len(report.steps[1].learnt["city"]) == 2
    assert {*found["city"]} == {None, "other", *report.steps[1].learnt["city"]}
    assert found["salary"].dtype == np.float64
    assert not np.isnan(found["age"]).any()
    assert made.rows == report.rows_after == int(np.isfinite(files.open(people).read()["age"]).sum())


def test_a_value_that_cannot_be_cast_is_named_or_becomes_missing(files: Importer) -> None:
    text = "a,word,y\n" + "".join(f"{i},{'many' if i in (70, 99) else i / 4},{i % 2}\n" for i in range(200))
    data = files.made({"t.csv": text}, shard_rows=64)
    with pytest.raises(
        Invalid, match=r"row 71: column 'word' holds 'many', which cannot be a number.*cast:word=number[?]"
    ):
        cleaned(files, data, "cast:word=number")
    made, report = cleaned(files, data, {"step": "cast", "types": {"word": "number"}, "misfits": "missing"})
    found = rows_of(files, made)["word"]
    assert np.flatnonzero(np.isnan(found)).tolist() == [70, 99]
    assert found[69] == 69 / 4
    assert report.steps[0].changed == {"word": 2}


def test_many_values_that_cannot_be_cast_do_not_take_long(files: Importer) -> None:
    data = files.made(
        {"t.csv": "word,y\n" + "".join(f"{'no' if i % 9 else i} {i % 7},{i % 2}\n" for i in range(30_000))}
    )
    began = time.monotonic()
    with pytest.raises(Invalid, match="row 1: column 'word' holds '0 0', which cannot be a number"):
        cleaned(files, data, "cast:word=number")
    _, report = cleaned(files, data, "cast:word=number?")
    assert report.steps[0].changed == {"word": 30_000}
    assert time.monotonic() - began < 10  # it was a minute


def test_what_stands_for_nothing_becomes_missing(files: Importer) -> None:
    text = "town,age,code,y\n" + "".join(
        f"{('oslo', '?', '', 'rome')[i % 4]},{-999 if i % 5 == 0 else i},{i % 3},{i % 2}\n" for i in range(100)
    )
    data = files.made({"t.csv": text}, types={"code": "category"})
    made, report = cleaned(files, data, "blank", "blank:age=-999,-998", "blank:code=2", "impute:age=median")
    assert [step.changed for step in report.steps] == [{"town": 25}, {"age": 20}, {"code": 33}, {"age": 20}]
    found = rows_of(files, made)
    assert set(found["town"].tolist()) == {"oslo", "rome", None} and found["age"].min() > 0
    for wrong, words in (("blank:age=?", "holds numbers, and none"), ("blank:nope=?", "no column 'nope'")):
        with pytest.raises(Invalid, match=words):
            cleaned(files, data, wrong)


def test_images_and_signals_lose_noise(files: Importer) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50, 12, 9, 1), dtype=np.uint8)
    waves = (np.sin(np.linspace(0, 6, 40)) + random.normal(0, 0.1, (50, 40))).astype("float32")
    trend = np.cumsum(random.normal(size=50))
    data = files.made({"t.npz": npz(x=images, w=waves, t=trend, y=np.arange(50) % 2)}, shard_rows=7)
    steps = ("denoise_images:x", "smooth:w=7", {"step": "smooth", "columns": ["t"], "window": 9, "order": 3})
    made, report = cleaned(files, data, *steps)
    found = rows_of(files, made)
    np.testing.assert_array_equal(found["x"], median_filter(images, (1, 3, 3, 1), mode="nearest"))
    np.testing.assert_allclose(found["w"], savgol_filter(waves.astype("f8"), 7, 2, axis=1).astype("f4"), rtol=1e-5)
    np.testing.assert_allclose(found["t"], savgol_filter(trend, 9, 3), rtol=1e-9)
    assert made is not None
    assert {c.name: c.type.value for c in made.columns} == {"x": "image", "w": "tensor", "t": "number", "y": "category"}
    assert report.steps[2].changed["t"] == 50
    with pytest.raises(Invalid, match="there are 50 rows, less than the window of 99"):
        cleaned(files, data, "smooth:t=99")


@pytest.mark.parametrize("gaps", ["leave_out", "missing", "previous"])
def test_a_series_is_resampled_as_pandas_does(files: Importer, gaps: str) -> None:
    random = np.random.default_rng(1)
    when = pd.Timestamp("2026-03-01") + pd.to_timedelta(np.sort(random.integers(0, 3 * 86400, 400)), unit="s")
    frame = pd.DataFrame(
        {
            "when": when,
            "v": random.normal(size=400),
            "n": random.integers(0, 9, 400),
            "w": [f"w{i}" for i in range(400)],
        }
    )
    frame.loc[100:200, "v"] = np.nan
    frame = frame.drop(index=range(250, 300)).sample(frac=1, random_state=0)  # in no order, with a gap
    data = files.made({"t.csv": frame.to_csv(index=False)}, types={"w": "text"}, target="", shard_rows=50)
    made, report = cleaned(
        files,
        data,
        {"step": "resample", "time": "when", "every": "1h", "each": {"n": "sum", "w": "last"}, "gaps": gaps},
    )
    bins = frame.sort_values("when", kind="stable").resample("1h", on="when")
    wanted = pd.DataFrame({"v": bins["v"].mean(), "n": bins["n"].sum(min_count=1), "w": bins["w"].last()})
    if gaps == "leave_out":
        wanted = wanted[bins.size() > 0]
    if gaps == "previous":
        wanted = wanted.ffill()
    found = rows_of(files, made)
    np.testing.assert_array_equal(found["when"], wanted.index.astype("datetime64[us]").astype("int64"))
    np.testing.assert_allclose(found["v"], wanted["v"].to_numpy())
    np.testing.assert_allclose(found["n"].astype(float), wanted["n"].to_numpy(float))
    assert found["w"].tolist() == [None if w != w else w for w in wanted["w"]]
    assert report.rows_after == len(wanted)


def test_several_series_are_resampled_apart(files: Importer) -> None:
    text = "when,sensor,v\n" + "".join(f"2026-01-01T{i % 24:02}:{i % 60:02}:00,{'ab'[i % 2]},{i}\n" for i in range(240))
    data = files.made({"t.csv": text}, target="", shard_rows=50)
    made, _ = cleaned(
        files, data, {"step": "resample", "time": "when", "every": "6h", "group": ["sensor"], "aggregate": "max"}
    )
    frame = pd.DataFrame(files.open(data).read())
    frame["when"] //= 6 * 3600 * 10**6
    wanted = frame.groupby(["sensor", "when"])["v"].max()
    found = rows_of(files, made)
    assert found["v"].tolist() == wanted.tolist()
    assert found["sensor"].tolist() == [key[0] for key in wanted.index]


def test_what_cannot_work_is_refused_before_a_row_is_read(files: Importer, people: Dataset) -> None:
    for steps, words in (
        (["impute:aeg=mean"], "steps.0: there is no column 'aeg': the columns are age, income"),
        (["drop:age", "impute:age=mean"], "steps.1: there is no column 'age'"),
        (["impute:city=mean"], "'city' is of type category, and the step takes numbers"),
        (["rename:age=city"], "two columns named 'city'"),
        (["denoise_images"], "no column of images"),
        (["drop:age,income,city,note,member,day,label"], "no column is left"),
        (["resample:age=1h"], "takes dates and times"),
    ):
        with pytest.raises(Invalid, match=words):
            cleaned(files, people, *steps)
    with pytest.raises(Invalid, match="is a part, and a whole version is cleaned"):
        cleaned(files, people.model_copy(update={"version": "1?part=train&train_size=0.5"}), "drop_duplicates")
    with pytest.raises(Invalid, match="leave no row"):
        cleaned(files, people, {"step": "outliers", "columns": ["income"], "do": "drop", "by": "quantiles", "between": [0.0, 1e-9]}, {"step": "cast", "types": {"note": "number"}, "misfits": "missing"}, "impute:note=drop")  # fmt: skip
    for word, message in (
        ("impute:a=", "nothing stands behind"),
        ("mend", "there is no step 'mend'"),
        ("drop", "is not complete"),
    ):
        with pytest.raises(Invalid, match=message):
            cleaned(files, people, word)


def test_the_same_content_is_no_new_version(files: Importer, people: Dataset) -> None:
    made, report = cleaned(files, people, "impute:member=most_frequent")
    assert made is None
    assert report.steps[0].changed == {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", ""])), min_size=1, max_size=200),
    size=st.integers(1, 40),
)
def test_duplicates_are_those_of_pandas(files: Importer, values: list[tuple[int, str]], size: int) -> None:
    text = "n,w,z\n" + "".join(f"{n},{w},1.5\n" for n, w in values)
    files.desk.datasets.clear()
    data = files.made({"t.csv.gz": gzip.compress(text.encode())}, shard_rows=size)
    made, report = cleaned(files, data, "drop_duplicates", name="other")
    wanted = pd.DataFrame(values).drop_duplicates()
    assert report.rows_after == len(wanted)
    found = rows_of(files, made)
    assert [int(n) for n in found["n"]] == wanted[0].tolist()


def test_personal_columns_stay_personal_and_unseen(files: Importer) -> None:
    text = (
        "name,mail,age,y\n"
        + "".join(f" Ann {i},a{i}@x.org,{20 + i % 9},{i % 2}\n" for i in range(60))
        + " Ann 1,a1@x.org,21,1\n"
    )
    data = files.made({"t.csv": text}, name="p", pii=("name", "mail"), shard_rows=16)
    made, report = cleaned(files, data, "drop_duplicates", {"step": "text", "columns": ["name"]}, "rename:mail=contact")
    assert made is not None
    assert {column.name for column in made.columns if column.pii} == {"name", "contact"}
    assert report.rows_after == 60
    assert "Ann" not in report.model_dump_json()
    assert rows_of(files, made)["name"][0] == "Ann 0"
    with pytest.raises(Invalid) as error:
        cleaned(files, data, "cast:name=number")
    assert "Ann" not in str(error.value)


def test_an_attempt_that_follows_another_writes_no_shard_twice(files: Importer, people: Dataset) -> None:
    from leptonai.data.clean_verbs import prepare_clean
    from leptonai.data.clean_work import clean

    files.handle.datasets["datasets:/people@v1"] = files.open(people)  # type: ignore[assignment]
    desk: Any = Desk(files)
    asked = Clean.model_validate({"data": "people", "steps": [step("drop_duplicates"), step("impute:age=mean")]})
    spec = Clean.model_validate(prepare_clean(asked, desk).spec)
    (files.handle.folder / "checkpoint").unlink(missing_ok=True)
    first = clean(spec, files.handle)
    shards = json.loads(files.handle.read(first["manifest"]))["shards"]
    files.handle.save({"shards": json.dumps(shards[:5]).encode()})  # then it was killed
    again = clean(spec, files.handle)
    assert again["digest"] == first["digest"]
    assert again["shards"][:5] == first["shards"][:5]
    assert not set(again["shards"][5:]) & set(first["shards"])


def test_values_are_made_less_personal(files: Importer) -> None:
    text = "mail,age,zip,y\n" + "".join(f"ann{i % 3}@x.org,{20 + i % 40},{75000 + i},{i % 2}\n" for i in range(90))
    data = files.made({"t.csv": text}, name="p", shard_rows=16, types={"mail": "text", "zip": "text"})
    steps = ({"step": "hash", "columns": ["mail"]}, {"step": "generalise", "columns": ["age"], "width": 10}, {"step": "mask", "columns": ["zip"], "first": 2})  # fmt: skip
    made, report = cleaned(files, data, *steps)
    found = rows_of(files, made)
    assert len(set(found["mail"])) == 3
    assert found["mail"][0] == found["mail"][3] != found["mail"][1]
    assert "@" not in found["mail"][0]
    assert found["age"][:2].tolist() == ["[20, 30)", "[20, 30)"]
    assert found["zip"][0] == "75•••"
    assert report.steps[0].changed == {"mail": 90}
    with pytest.raises(Invalid, match="'mail' is of type text, and the step takes values of its kind"):
        cleaned(files, data, {"step": "generalise", "columns": ["mail"], "width": 10})
