"""What kind of problem a dataset is, told from its columns."""

from typing import Any

import numpy as np
import pytest
from tests.support.handle import ArrayReader, reader_of
from tests.support.series import times

from leptonai.core import plugins
from leptonai.core.errors import Invalid, LeptonError
from leptonai.training.auto import models
from leptonai.training.auto.families import names, planned
from leptonai.training.auto.kinds import kind_of
from leptonai.training.encoder import Options, encode, fit, targets
from leptonai.training.spec import Train

A = np.array


def data(target: str = "y", **columns: Any) -> ArrayReader:
    types = {name: "text" for name in columns if name.startswith("text")}
    return reader_of({**columns, target: A([0.0, 1.0])}, target, **types)


NUMBERS, TEXTS, PICTURES = A([1.0, 2.0]), A(["a b", "b c"], object), A([[[[1]] * 8] * 8] * 2).astype("uint8")


@pytest.mark.parametrize(
    ("columns", "asked", "kind", "fields"),
    [
        ({"a": NUMBERS}, "auto", "table", {}),
        ({"picture": PICTURES}, "auto", "image", {}),
        ({"a": NUMBERS, "text": TEXTS}, "auto", "text", {"features": ["text"], "facts": {"texts": True}}),
        ({"a": NUMBERS, "text": TEXTS}, "table", "table", {"features": ["a"]}),
    ],
    ids=["table", "image", "text", "the rest of a text"],
)
def test_the_kind_is_told_by_the_columns(columns: Any, asked: str, kind: str, fields: Any) -> None:
    found = kind_of(asked, data(**columns).dataset, "y", None)
    assert found == (kind, fields)


MANY = A([f"n{i}" for i in range(30)], object)
VALUES = np.arange(30.0)


@pytest.mark.parametrize(
    ("columns", "asked", "kind"),
    [
        ({"who": MANY, "what": MANY, "y": VALUES}, "auto", "ratings"),
        ({"user_id": np.arange(30), "item": np.arange(30), "y": VALUES}, "auto", "ratings"),
        ({"width": np.arange(30), "height": np.arange(30), "y": VALUES}, "auto", "table"),
        ({"width": np.arange(30), "height": np.arange(30), "y": VALUES}, "ratings", "ratings"),
        ({"user_id": np.arange(30), "item": np.arange(30), "when": VALUES, "y": VALUES}, "auto", "table"),
        ({"user_id": np.arange(30), "item": np.arange(30), "when": VALUES, "y": VALUES}, "ratings", "ratings"),
        ({"who": MANY, "what": MANY, "y": A(["a", "b"] * 15, object)}, "auto", "table"),
    ],
    ids=["words", "numbers", "amounts", "asked for", "more", "more, asked for", "classes"],
)
def test_ratings_are_told_where_they_are_plain(columns: Any, asked: str, kind: str) -> None:
    found, fields = kind_of(asked, reader_of(columns, "y").dataset, "y", None)
    assert found == kind and (kind == "table" or fields == {"features": list(columns)[:2]})


WHEN = times("2019-01", 30, "D")


@pytest.mark.parametrize(
    ("columns", "asked", "kind", "features"),
    [
        ({"when": WHEN, "y": VALUES}, "auto", "series", ["when"]),
        ({"when": WHEN, "shop": MANY, "y": VALUES}, "auto", "table", None),
        ({"when": WHEN, "shop": MANY, "heat": VALUES, "y": VALUES}, "series", "series", ["when", "shop"]),
        ({"when": WHEN, "y": MANY}, "auto", "table", None),
    ],
    ids=["plain", "more", "more, asked for", "classes"],
)
def test_series_are_told_where_they_are_plain(columns: Any, asked: str, kind: str, features: Any) -> None:
    found, fields = kind_of(asked, reader_of(columns, "y").dataset, "y", None)
    assert found == kind and fields.get("features") == features


@pytest.mark.parametrize(
    ("columns", "time", "words"),
    [
        ({"a": VALUES, "y": VALUES}, None, "name it with column=…, there are none"),
        ({"a": WHEN, "b": WHEN, "y": VALUES}, None, "there are a, b"),
        ({"a": WHEN, "b": VALUES, "y": VALUES}, "b", "column='b' to be a time; there are a"),
        ({"a": WHEN, "y": MANY}, None, "a target of numbers, and 'y' is of type category"),
    ],
    ids=["none", "two", "no time", "words"],
)
def test_what_is_no_series_is_told(columns: Any, time: Any, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        kind_of("series", reader_of(columns, "y").dataset, "y", None, time)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"a": np.arange(30), "b": np.arange(30), "c": MANY, "y": VALUES},
            "there are a, b, c: name two with features=",
        ),
        ({"a": VALUES, "b": np.arange(30), "y": VALUES}, "there are b: name two"),
        ({"a": MANY, "b": MANY, "y": MANY}, "it needs a target of numbers, and 'y' is of type category"),
    ],
    ids=["three", "one", "words"],
)
def test_what_is_no_matrix_of_ratings_is_told(columns: Any, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        kind_of("ratings", reader_of(columns, "y").dataset, "y", None)


@pytest.mark.parametrize(
    ("columns", "asked", "words"),
    [
        ({"a": NUMBERS}, "text", "it needs a column of text"),
        ({"a": NUMBERS}, "image", "it needs one column of images"),
        ({}, "auto", "no column to learn from beside its target 'y'"),
    ],
    ids=["no text", "no image", "no column"],
)
def test_what_does_not_fit_is_told(columns: Any, asked: str, words: str) -> None:
    with pytest.raises(LeptonError, match=words):
        kind_of(asked, data(**columns).dataset, "y", None)


def test_a_target_of_several_values_is_refused() -> None:
    two = reader_of({"a": NUMBERS, "y": A([[0.0, 1.0], [1.0, 0.0]])}, "y").dataset
    with pytest.raises(Invalid, match="one value a row"):
        kind_of("auto", two, "y", None)


def test_the_same_seed_plans_the_same() -> None:
    first, again, other = (list(planned("table", (), 30, seed)) for seed in (1, 1, 2))
    assert first == again != other and len(first) == len({one.name for one in first}) == 30
    assert first[0].name == "baseline" and {one.family for one in planned("table", ("linear",), 30, 1)} == {
        "baseline",
        "linear",
    }
    assert "lightgbm" in names("table") and "words" in names("text")


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_kind_of_model_for_tables_learns(task: str) -> None:
    random = np.random.default_rng(0)
    words = np.array(["a", "b", "c"], object)[random.integers(0, 3, 120)]
    size = random.normal(size=120)
    y = size + (words == "b")
    goal: Any = y if task == "regression" else np.where(y > 0, "high", "low").astype(object)
    reader = reader_of({"size": size, "word": words, "y": goal}, "y")
    encoding = fit(reader, None, "y", Options(scale=False, images="flat"))
    x, target = encode(encoding, reader.read()), targets(encoding, reader.read())
    for one in planned("table", (), 9, 0):
        quick = {name: 20 for name in ("n_estimators", "max_iter") if name in one.settings}
        candidate = vars(one) | {"settings": one.settings | quick}
        found = models.made(candidate, "table", encoding, Train(data="d"), reader.columns)
        framework = plugins.framework(found.framework)
        learner = framework.load(framework.pack(found.model, {}).code)
        learner.begin(x, target, task, len(encoding.classes), 0)
        learner.step(x, target)
        assert len(learner.predict(x)) == 120, one.name
