"""Biases and factors of users and items: they find what was planted, and say the same as their graph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from sklearn.base import clone
from sklearn.ensemble import VotingRegressor
from tests.support.ratings import planted

from leptonai.adapters.frameworks import skops_file
from leptonai.adapters.frameworks.ratings import Ratings
from leptonai.core import plugins


def _error(model: Ratings, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.mean((model.predict(x) - y) ** 2)))


def test_factors_find_what_biases_cannot() -> None:
    x, y = planted(users=60, items=40, rank=2, rows=1500)
    told, asked = slice(0, 1200), slice(1200, 1500)
    biases, factors = Ratings(rank=0), Ratings(rank=2, strength=0.02)
    errors = [_error(model.fit(x[told], y[told]), x[asked], y[asked]) for model in (biases, factors)]
    assert errors[1] < 0.25 < 0.8 < errors[0] < np.std(y)


def test_who_is_not_known_adds_nothing() -> None:
    x, y = planted(users=30, items=20, rank=0, rows=500)
    model = Ratings(rank=3).fit(x, y)
    nobody = model.predict(np.array([[0, 0], [0, 99], [31, 0]], np.float32))
    assert nobody == pytest.approx(np.full(3, y.mean()), abs=1e-5)
    alone = model.predict(np.array([[0, place] for place in range(1, 21)], np.float32))
    means = [y[x[:, 1] == place].mean() for place in range(1, 21)]
    assert np.corrcoef(alone, means)[0, 1] > 0.9


@settings(max_examples=20, deadline=None)
@given(rank=some.integers(0, 4), rows=some.integers(1, 60), seed=some.integers(0, 99))
def test_answers_are_finite_and_within_the_range_that_was_seen(rank: int, rows: int, seed: int) -> None:
    x, y = planted(users=9, items=7, rank=1, rows=rows, seed=seed)
    model = Ratings(rank=rank).fit(x, y)
    every = np.array([[user, item] for user in range(10) for item in range(8)], np.float32)
    found = model.predict(every)
    assert np.isfinite(found).all()
    assert found.min() >= np.float32(y.min()) and found.max() <= np.float32(y.max())


def test_the_same_seed_gives_the_same_file_which_can_be_read_again() -> None:
    x, y = planted(users=9, items=7, rank=1, rows=60)
    first, again = (Ratings(rank=2, random_state=1).fit(x, y) for _ in range(2))
    file = skops_file.write(first)
    assert file == skops_file.write(again)
    assert (skops_file.read(file, []).predict(x) == first.predict(x)).all()
    assert clone(first).get_params() == first.get_params()


def test_three_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="two columns, of users and of items, and these have 3"):
        Ratings().fit(np.ones((4, 3), np.float32), np.arange(4.0))


@pytest.mark.parametrize("voted", [False, True], ids=["alone", "in a vote"])
def test_its_graph_says_the_same(voted: bool) -> None:
    from leptonai.adapters.frameworks.sklearn_learner import SklearnLearner

    x, y = planted(users=20, items=15, rank=2, rows=300)
    model = Ratings(rank=2)
    learner = SklearnLearner(
        VotingRegressor([("a", model), ("b", Ratings(rank=0))], weights=[0.7, 0.3]) if voted else model, [], []
    )
    assert learner.columns == "names"
    learner.model.fit(x, y)
    asked = np.concatenate([x[:50], [[0, 0], [3, 0], [0, 4], [21, 16]]]).astype(np.float32)
    route = next(iter(plugins.framework("sklearn").export(learner, asked)))
    graph = plugins.runtime("onnx").load({"model.onnx": route.build()})
    try:
        (found,) = graph.predict({"x": asked}).values()
    finally:
        graph.close()
    assert found.reshape(-1) == pytest.approx(learner.predict(asked), abs=1e-4)
