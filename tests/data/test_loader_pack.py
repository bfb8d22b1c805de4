"""Classes by their place among the categories, however a shard stores the words."""

import numpy as np
import pyarrow as pa
import pytest

from leptonai.core.nouns import Column, FeatureType
from leptonai.data.loader_pack import _places

WORDS = pa.array(["b", None, "a", "unknown", "b"], pa.large_string())


def category(*known: str | int) -> Column:
    dtype = "str" if isinstance(known[0], str) else "int64"
    return Column(name="c", type=FeatureType.CATEGORY, dtype=dtype, categories=known)


@pytest.mark.parametrize(
    ("values", "known", "places"),
    [
        (WORDS, ("a", "b"), [1, -1, 0, -1, 1]),
        (WORDS.dictionary_encode(), ("a", "b"), [1, -1, 0, -1, 1]),
        (pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array(["a", None])), ("a",), [0, -1, -1]),
        (pa.array([2, 1, None]), (1, 2), [1, 0, -1]),
        (pa.array([1, 2, None]), ("1", "x"), [0, -1, -1]),  # whole numbers in a shard, before words came
        (pa.array(["1", "2"], pa.large_string()), (1, 2), [0, 1]),
        (pa.nulls(2), ("a",), [-1, -1]),
    ],
)
def test_each_value_is_its_place(values: pa.Array, known: tuple[str | int, ...], places: list[int]) -> None:
    found = _places(pa.chunked_array([values, values.slice(1)]), category(*known))
    assert found.dtype == np.int64
    assert found.tolist() == places + places[1:]


def test_as_many_words_as_small_indices_can_tell() -> None:
    words = [f"w{n:03}" for n in range(128)]
    indices = pa.array([*range(128), None], pa.int8())
    values = pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array(words))])
    assert _places(values, category(*words)).tolist() == [*range(128), -1]


def test_no_rows() -> None:
    assert _places(pa.chunked_array([], pa.large_string()), category("a")).tolist() == []
