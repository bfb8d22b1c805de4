"""Shapley values: those of the definition, those of a formula where there is one, and they always add up."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.evaluation import shapley

Array = np.ndarray[Any, Any]


def table(columns: int, rows: int, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {f"c{at}": random.normal(size=rows) for at in range(columns)}


def tangled(batch: Any) -> Array:
    """A function with interactions of two and of three columns."""
    a, b, c = batch["c0"], batch["c1"], batch["c2"]
    value = a * b + np.sin(c) + (a * b * c if "c3" not in batch else a * batch["c3"] * c)
    return np.stack([value, -value], 1)


def by_definition(row: dict[str, float], background: dict[str, Array]) -> dict[str, float]:
    names = list(row)
    total = dict.fromkeys(names, 0.0)
    orders = list(permutations(names))
    for order in orders:
        made = dict(background)
        before = tangled(made)[:, 0].mean()
        for name in order:
            made = made | {name: np.full(len(background[name]), row[name])}
            now = tangled(made)[:, 0].mean()
            total[name] += (now - before) / len(orders)
            before = now
    return total


@pytest.mark.parametrize("columns", [3, 4])
def test_exact_shares_are_those_of_the_definition(columns: int) -> None:
    rows, background = table(columns, 5, 0), table(columns, 20, 1)
    found = shapley.shares(tangled, rows, background, np.zeros(5, int), 0)
    assert found.exact
    for at in range(5):
        wanted = by_definition({name: values[at] for name, values in rows.items()}, background)
        assert found.values[at] == pytest.approx(list(wanted.values()), abs=1e-10)


def test_drawn_orders_come_near_the_exact_ones_and_a_linear_model_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, background = table(4, 5, 0), table(4, 64, 1)
    exact = shapley.shares(tangled, rows, background, np.zeros(5, int), 0).values
    monkeypatch.setattr(shapley, "EXACT", 0)
    drawn = shapley.shares(tangled, rows, background, np.zeros(5, int), 0)
    assert not drawn.exact
    assert np.abs(drawn.values - exact).max() < 0.5 * np.abs(exact).max()
    weights = np.array([3.0, -2.0, 0.0, 0.5])
    found = shapley.shares(lambda batch: weights @ np.stack(list(batch.values())), rows, background, None, 0)
    wanted = weights * np.stack([rows[name] - background[name].mean() for name in rows], 1)
    assert found.values == pytest.approx(wanted, abs=1e-10)


@given(columns=st.integers(1, 12), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_shares_add_up(columns: int, seed: int) -> None:
    rows, background = table(columns, 2, seed), table(columns, 10, seed + 1)

    def scores(batch: Any) -> Array:
        return np.asarray(np.prod(np.stack([np.cos(values) for values in batch.values()]), axis=0))

    found = shapley.shares(scores, rows, background, None, seed)
    assert found.values.sum(1) == pytest.approx(found.score - found.base, abs=1e-10)
    assert found.score == pytest.approx(scores(rows))
    assert found.base == pytest.approx(np.full(2, scores(background).mean()))


def test_words_truth_values_and_missing_ones() -> None:
    rows: dict[str, Any] = {
        "plan": np.array(["pro", None], dtype=object),
        "age": np.array([1.0, np.nan]),
        "left": np.array([True, False]),
        "grid": np.arange(8.0).reshape(2, 2, 2),
    }
    background = {name: values[[1, 0, 1, 0]] for name, values in rows.items()}

    def scores(batch: Any) -> Array:
        plan = np.array([value == "pro" for value in batch["plan"]], float)
        return np.asarray(plan + np.nan_to_num(batch["age"]) + batch["left"] + batch["grid"].sum((1, 2)))

    found = shapley.shares(scores, rows, background, None, 0)
    assert found.values[0] == pytest.approx([0.5, 0.5, 0.5, -8.0])


def test_the_time_bounds_how_many_rows_are_told() -> None:
    rows, background = table(3, 50, 0), table(3, 10, 1)
    found = shapley.shares(tangled, rows, background, np.zeros(50, int), 0, seconds=0)
    assert found.values.shape == (1, 3)


def test_they_are_those_of_the_library_shap() -> None:
    # shap 0.51.0, explainers.Exact(f, maskers.Independent(background)); its KernelExplainer gives the same to 1e-15.
    wanted = [
        [0.19209726, 0.1472634, -0.43482202, 0.07944278],
        [0.04467193, 0.05195288, 0.20120333, 0.03902397],
        [0.6487072, 0.44697732, -0.47623893, 0.19409356],
        [0.12960096, 0.0673205, -0.06669525, 0.03428552],
        [0.81474616, 0.42241493, -0.66404952, 0.31764956],
    ]
    found = shapley.shares(tangled, table(4, 5, 0), table(4, 20, 1), np.zeros(5, int), 0)
    assert found.values == pytest.approx(np.array(wanted), abs=1e-8)
    assert found.base == pytest.approx(np.full(5, -0.46483133), abs=1e-8)
