"""What we write by hand is what any other library reads."""

import json
import math
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.cli import formats

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value if item is not None] if isinstance(value, list) else value


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_toml_is_read_back_as_it_was(data: dict[str, Any]) -> None:
    assert tomllib.loads(formats.to_toml(data)) == without_none(data)


@given(VALUES)
def test_yaml_is_read_back_as_it_was(data: Any) -> None:
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(formats.to_yaml(data))
    assert json.dumps(read) == json.dumps(data)


@pytest.mark.parametrize(
    "word", ["yes", "No", "null", "1e5", "0x1f", "~", "- a", "a: b", "#", "", " a", "2024-01-01", "=", "<<"]
)
def test_yaml_words_that_mean_something_else_stay_text(word: str) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(formats.to_yaml({"v": word, word: [word]})) == {"v": word, word: [word]}


def test_numbers_that_json_does_not_have_become_null() -> None:
    assert json.loads(formats.to_json({"a": [math.nan, math.inf, 1.5]})) == {"a": [None, None, 1.5]}
    assert ".nan" in formats.to_yaml([math.nan])
    assert tomllib.loads(formats.to_toml({"a": -math.inf})) == {"a": -math.inf}
