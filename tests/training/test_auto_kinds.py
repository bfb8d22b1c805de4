"""What kind of problem a dataset is, told from its columns."""

from typing import Any

import numpy as np
import pytest
from tests.support.handle import ArrayReader, reader_of

from leptonai.core.errors import Invalid, LeptonError
from leptonai.training.auto.families import names, planned
from leptonai.training.auto.kinds import kind_of

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
