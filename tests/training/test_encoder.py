"""The encoder does what `spec.FeatureCode` says, value by value, whatever the values are."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.handle import ArrayReader, column_of, reader_of

from leptonai.core.errors import Invalid, Unsupported
from leptonai.training import encoder
from leptonai.training.encoder import Options, encode, fit, positions, targets
from leptonai.training.spec import Encoding, FeatureCode

MISSING_TIME = np.iinfo(np.int64).min
numbers = st.one_of(st.none(), st.floats(-1e12, 1e12, allow_nan=False), st.integers(-5, 5).map(float))
words = st.one_of(st.none(), st.text(max_size=3), st.sampled_from(["a", "b", "c", ""]))
integers = st.integers(-(2**53), 2**53)


def plain(feature: FeatureCode, value: Any) -> list[float]:
    """Encode one value as the specification reads, without NumPy's vectors."""
    missing = value is None or value != value
    if feature.op in ("scale", "time"):
        with np.errstate(over="ignore"):
            return [0.0 if missing else float(np.float32((float(value) - feature.mean) / feature.std))]
    if feature.op == "raw":
        return [math.nan if missing else float(np.float32(value))]
    if feature.op == "flag":
        return [1.0 if value is True else 0.0]
    place = feature.categories.index(value) + 1 if not missing and value in feature.categories else 0
    if feature.op == "index":
        return [float(place)]
    return [1.0 if place == i + 1 else 0.0 for i in range(len(feature.categories))]


@st.composite
def tables(draw: Any) -> dict[str, list[Any]]:
    rows = draw(st.integers(2, 12))
    column = {
        "number": st.lists(numbers, min_size=rows, max_size=rows),
        "word": st.lists(words, min_size=rows, max_size=rows),
        "whole": st.lists(integers, min_size=rows, max_size=rows),
        "flag": st.lists(st.booleans(), min_size=rows, max_size=rows),
        "code": st.lists(st.integers(0, 3), min_size=rows, max_size=rows),
        "time": st.lists(st.integers(0, 2**52), min_size=rows, max_size=rows),
    }
    return {name: draw(values) for name, values in column.items()}


def reader(table: dict[str, list[Any]]) -> ArrayReader:
    rows = len(table["number"])
    data = {
        "number": np.array([math.nan if v is None else v for v in table["number"]]),
        "word": np.array(table["word"], dtype=object),
        "whole": np.array(table["whole"], dtype=np.int64),
        "flag": np.array(table["flag"]),
        "code": np.array(table["code"], dtype=np.int64),
        "time": np.array(table["time"], dtype=np.int64),
        "y": np.arange(rows, dtype=float),
    }
    return reader_of(data, "y", code="category", time="datetime")


@settings(max_examples=60, deadline=None)
@given(tables(), tables(), st.booleans(), st.booleans())
def test_every_value_is_encoded_as_the_rules_say(
    learnt: dict[str, list[Any]], seen: dict[str, list[Any]], scale: bool, onehot: bool
) -> None:
    options = Options(scale=scale, category_encoding="onehot" if onehot else "index")
    encoding = fit(reader(learnt), None, None, options)
    x = encode(encoding, reader(seen).read())
    assert x.dtype == np.float32
    wanted = [
        [value for feature in encoding.features for value in plain(feature, seen[feature.column][row])]
        for row in range(len(seen["number"]))
    ]
    assert np.array_equal(x, np.array(wanted, dtype=np.float32).reshape(x.shape), equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), min_size=1, max_size=40), st.integers(1, 7))
def test_mean_and_deviation_do_not_depend_on_the_batches(values: list[float | None], size: int) -> None:
    array = np.array([math.nan if v is None else v for v in values])
    seen = encoder._Seen()
    for at in range(0, len(array), size):
        seen.add_numbers(array[at : at + size])
    known = array[~np.isnan(array)]
    assert seen.missing == len(array) - len(known)
    if len(known):
        largest = max(1.0, np.abs(known).max())
        assert seen.mean == pytest.approx(known.mean(), abs=1e-9 * largest)
        if known.std() > 1e-6 * largest:
            assert seen.std == pytest.approx(known.std(), rel=1e-6)


@given(st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=20), st.sets(st.text(max_size=2), max_size=5))
def test_positions_of_words(values: list[str | None], known: set[str]) -> None:
    order = sorted(known)
    found = positions(np.array(values, dtype=object), order, first=1, other=0)
    assert found.tolist() == [order.index(v) + 1 if v in known else 0 for v in values]


@given(st.lists(st.integers(-9, 9), max_size=20), st.sets(st.integers(-9, 9), max_size=5), st.booleans())
def test_positions_of_numbers(values: list[int], known: set[int], with_gaps: bool) -> None:
    order = sorted(known)
    array = np.array([*values, math.nan] if with_gaps else values, dtype=float if with_gaps else np.int64)
    found = positions(array, order)
    assert found.tolist()[: len(values)] == [order.index(v) if v in known else -1 for v in values]
    assert not with_gaps or found[-1] == -1


def test_statistics_come_from_the_training_part_alone() -> None:
    data = {"a": np.array([1.0, 3.0]), "c": np.array(["x", "y"], dtype=object), "y": np.array([0.0, 1.0])}
    encoding = fit(reader_of(data, "y"), None, None, Options())
    later = {"a": np.array([5.0]), "c": np.array(["z"], dtype=object)}
    assert encode(encoding, later).tolist() == [[3.0, 0.0]]


def test_the_classes_are_those_of_the_whole_dataset() -> None:
    data = {"a": np.arange(3.0), "y": np.array(["b", "d", "b"], dtype=object)}
    whole = column_of("y", np.array(["a", "b", "c", "d"], dtype=object))
    part = ArrayReader([column_of("a", data["a"]), whole], data, "y")
    encoding = fit(part, None, None, Options())
    assert (encoding.task, encoding.classes) == ("classification", ("a", "b", "c", "d"))
    assert targets(encoding, data).tolist() == [1, 3, 1]


def test_targets() -> None:
    yes = {"a": np.arange(2.0), "y": np.array([True, False])}
    encoding = fit(reader_of(yes, "y"), None, None, Options())
    assert encoding.classes == (0, 1)
    assert targets(encoding, yes).tolist() == [1, 0]
    values = {"a": np.arange(2.0), "y": np.array([1, 2])}
    encoding = fit(reader_of(values, "y"), None, None, Options())
    assert (encoding.task, targets(encoding, values).dtype) == ("regression", np.float32)
    several = {"a": np.arange(2.0), "y": np.ones((2, 3))}
    assert targets(fit(reader_of(several, "y"), None, None, Options()), several).shape == (2, 3)


def test_images_and_tensors() -> None:
    images = np.arange(2 * 4 * 3 * 1, dtype=np.uint8).reshape(2, 4, 3, 1)
    data = {"image": images, "y": np.array([0.0, 1.0])}
    first = fit(reader_of(data, "y"), None, None, Options(images="channels_first"))
    last = fit(reader_of(data, "y"), None, None, Options(images="channels_last"))
    flat = fit(reader_of(data, "y"), None, None, Options(images="flat"))
    wanted = images.astype(np.float32) / np.float32(255)
    assert np.array_equal(encode(first, data), wanted.transpose(0, 3, 1, 2))
    assert np.array_equal(encode(last, data), wanted)
    assert np.array_equal(encode(flat, data), wanted.reshape(2, -1))
    series = {"series": np.ones((2, 5, 3)), "y": np.array([0.0, 1.0])}
    encoding = fit(reader_of(series, "y"), None, None, Options(images="channels_first"))
    assert (encoding.layout, encode(encoding, series).shape) == ("channels_last", (2, 5, 3))
    with pytest.raises(Invalid, match=r"'image'.*\(5, 3, 1\).*\(4, 3, 1\)"):
        encode(first, {"image": np.zeros((2, 5, 3, 1), np.uint8)})


def test_a_missing_datetime_is_coded_like_a_missing_number() -> None:
    times = np.array([0, 2_000_000, MISSING_TIME], dtype=np.int64)
    data = {"at": times, "y": np.arange(3.0)}
    encoding = fit(reader_of(data, "y", at="datetime"), None, None, Options())
    assert (encoding.features[0].mean, encoding.features[0].std) == (1e6, 1e6)
    assert encode(encoding, data)[:, 0].tolist() == [-1.0, 1.0, 0.0]


def test_whole_numbers_for_an_embedding_stay_what_they_are() -> None:
    data = {"word": np.array([3, 7]), "kind": np.array(["a", "b"], dtype=object), "y": np.arange(2.0)}
    encoding = fit(reader_of(data, "y"), None, None, Options(dtype="int64", category_encoding="onehot"))
    x = encode(encoding, data)
    assert (x.dtype, x.tolist()) == (np.int64, [[3, 1], [7, 2]])


@pytest.mark.parametrize(
    ("data", "types", "options", "error", "says"),
    [
        ({"t": ["some words", "more"], "y": [0.0, 1.0]}, {"t": "text"}, {}, Unsupported, r"'t' is text.*features=\[…\].*types="),
        ({"i": np.zeros((2, 2, 2, 1), np.uint8), "age": [1.0, 2.0], "y": [0.0, 1.0]}, {}, {}, Unsupported, "'i'.*age"),
        ({"a": [1.0, 2.0], "y": [0.0, math.nan]}, {}, {}, Invalid, r"'y' is empty in 1 row\b"),
        ({"a": [1.0, 2.0, 3.0], "y": ["a", None, None]}, {"y": "category"}, {}, Invalid, "'y' is empty in 2 rows"),
        ({"a": [1.0, 2.0], "y": [0.0, math.inf]}, {}, {}, Invalid, "'y' is infinite"),
        ({"a": [1.0, -math.inf], "y": [0.0, 1.0]}, {}, {}, Invalid, "'a' is infinite in 1 rows"),
        ({"a": [1.0, 2.0], "y": ["only", "only"]}, {"y": "category"}, {}, Invalid, "one class only, 'only'"),
        ({"a": [1.0, math.nan], "y": [0.0, 1.0]}, {}, {"dtype": "int64"}, Invalid, "'a' is empty in 1 rows"),
        ({"a": [1, 2], "y": [0.0, 1.0]}, {"a": "datetime"}, {"dtype": "int64"}, Unsupported, "'a' is a datetime"),
        ({"y": [0.0, 1.0]}, {}, {}, Invalid, "no column to learn from"),
        ({"a": [1.0], "y": ["x"]}, {"y": "text"}, {}, Unsupported, r"target 'y'.*types="),
    ],
)  # fmt: skip
def test_what_cannot_be_encoded_is_named(
    data: dict[str, Any], types: dict[str, str], options: dict[str, Any], error: type[Invalid], says: str
) -> None:
    arrays = {n: np.array(v, dtype=object if types.get(n) in ("text", "category") else None) for n, v in data.items()}
    with pytest.raises(error, match=says):
        fit(reader_of(arrays, "y", **types), None, None, Options(**options))


def test_columns_that_are_not_there() -> None:
    data = {"a": np.arange(2.0), "b": np.arange(2.0), "y": np.arange(2.0)}
    with pytest.raises(Invalid, match="'z'; it has a, b, y"):
        fit(reader_of(data, "y"), ("a", "z"), None, Options())
    with pytest.raises(Invalid, match="'z'"):
        fit(reader_of(data, "y"), None, "z", Options())
    with pytest.raises(Invalid, match="target"):
        fit(reader_of(data, None), None, None, Options())
    with pytest.raises(Invalid, match="cannot be a feature"):
        fit(reader_of(data, "y"), ("a", "y"), None, Options())
    encoding = fit(reader_of(data, "y"), ("b", "a"), None, Options())
    assert [feature.column for feature in encoding.features] == ["b", "a"]
    with pytest.raises(Invalid, match="needs column 'a'"):
        encode(encoding, {"b": data["b"]})


def test_a_class_that_was_never_seen_is_named() -> None:
    data = {"a": np.arange(2.0), "y": np.array(["x", "z"], dtype=object)}
    encoding = fit(reader_of(data, "y"), None, None, Options())
    with pytest.raises(Invalid, match=r"'q'.*none of the classes learnt: x, z"):
        targets(encoding, {"y": np.array(["x", "q"], dtype=object)})


def test_an_encoding_survives_json() -> None:
    data = {"a": np.array([0.1, 1 / 3]), "y": np.array(["x", "z"], dtype=object)}
    encoding = fit(reader_of(data, "y"), None, None, Options())
    assert Encoding.model_validate_json(encoding.model_dump_json()) == encoding
