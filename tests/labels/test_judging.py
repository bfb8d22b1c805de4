"""The sums behind label errors, automatic labels and picked rows, on made opinions where the truth is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.core.errors import Invalid
from leptonai.labels.auto import calibrated, lower_bound, temperature, threshold
from leptonai.labels.next_rows import doubt, spread
from leptonai.labels.wrong import errors
from leptonai.training.folds import fold_numbers


def opinions(rows: int, classes: int, sure: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and scores of a model that is right as often as it says."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(classes, sure), rows)
    drawn = (scores.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return drawn, scores.astype(np.float32)


def test_flipped_labels_are_named_with_what_they_should_be() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 2000)
    scores = np.full((2000, 4), 0.05, np.float32)
    scores[np.arange(2000), truth] = 0.85
    labels = truth.copy()
    wrong = rng.choice(2000, 100, replace=False)
    labels[wrong] = (truth[wrong] + 1) % 4
    found = errors(np.arange(2000) + 10, labels, scores, ("a", "b", "c", "d"))
    assert {error.row - 10 for error in found} == set(wrong.tolist())
    assert all(
        error.suggested == "abcd"[truth[error.row - 10]] and error.given == "abcd"[labels[error.row - 10]]
        for error in found
    )


def test_one_class_and_absent_classes_are_no_error() -> None:
    scores = np.full((20, 3), 1 / 3, np.float32)
    assert errors(np.arange(20), np.zeros(20, np.int64), scores, (0, 1, 2)) == []
    errors(np.arange(20), np.arange(20) % 2, scores, (0, 1, 2))


def test_scores_that_are_too_sure_are_cooled_and_shy_ones_warmed() -> None:
    labels, scores = opinions(20_000, 5, 3.0)
    assert temperature(scores, labels) == pytest.approx(1, abs=0.05)
    for power in (3.0, 0.4):
        sharp = scores.astype(np.float64) ** power
        sharp /= sharp.sum(axis=1, keepdims=True)
        warmth = temperature(sharp, labels)
        assert warmth == pytest.approx(power, rel=0.05)
        assert np.allclose(calibrated(sharp, power), scores, atol=1e-4)


@pytest.mark.parametrize("precision", [0.8, 0.9, 0.95, 0.99])
def test_above_the_threshold_the_precision_holds_on_other_rows_too(precision: float) -> None:
    held = []
    for seed in range(10):
        labels, scores = opinions(2000, 4, 0.3, seed)
        others, their = opinions(20_000, 4, 0.3, seed + 100)
        least = threshold(scores.max(axis=1), scores.argmax(axis=1) == labels, precision)
        sure = their.max(axis=1) >= least
        if sure.any():  # no threshold is found where it cannot be shown to hold
            held.append((their.argmax(axis=1) == others)[sure].mean())
    assert len(held) > 5 and np.mean(held) > precision - 0.01, held


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200), st.floats(0.5, 0.999))
def test_a_threshold_is_one_that_held(pairs: list[tuple[int, bool]], precision: float) -> None:
    confidence = np.array([value / 20 for value, _ in pairs])
    right = np.array([good for _, good in pairs], bool)
    least = threshold(confidence, right, precision)
    above = confidence >= least
    if above.any():
        assert above.sum() >= 20 and right[above].mean() >= precision
    else:
        assert least == 2


def test_the_lower_bound_is_that_of_clopper_and_pearson() -> None:
    assert lower_bound(0, 10) == 0
    assert lower_bound(100, 100) == pytest.approx(0.05 ** (1 / 100))
    assert lower_bound(95, 100) == pytest.approx(0.8977, abs=2e-4)


def test_doubtful_rows_that_are_far_from_each_other_are_picked() -> None:
    sure, torn = [0.98, 0.01, 0.01], [0.4, 0.35, 0.25]
    scores = np.array([sure] * 50 + [torn] * 50)
    for by in ("margin", "entropy"):
        doubts = doubt(scores, by)
        assert doubts[:50].max() < doubts[50:].min()
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (50, 2)), np.repeat([[0, 0], [9, 0], [0, 9], [9, 9], [5, 5]], 10, axis=0)])
    picked = spread(x[50:], 10)
    assert len({tuple(x[50 + row]) for row in picked[:5]}) == 5  # not ten times the same
    assert spread(x[:3], 5).tolist() == [0, 1, 2]


def test_each_class_is_shared_evenly_by_the_folds() -> None:
    y = np.repeat([0, 1, 2], [50, 7, 103])
    folds = fold_numbers(y, 5, seed=1)
    for label in range(3):
        counts = np.bincount(folds[y == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(folds, fold_numbers(y, 5, seed=1)) and not np.array_equal(folds, fold_numbers(y, 5, seed=2))


def test_folds_that_are_done_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LogisticRegression
    from tests.support.handle import FileHandle, reader_of

    from leptonai.core import plugins
    from leptonai.training import folds

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    table = {"a": rng.normal(size=120) + 2 * y, "b": rng.normal(size=120), "y": y}
    handle = FileHandle(tmp_path / "job", datasets={"made": reader_of(table, "y", y="category")})
    packed = plugins.framework("sklearn").pack(LogisticRegression(), {})
    spec = {"data": "made", "framework": "sklearn", "flavour": "sklearn", "code": handle.write(packed.code)}
    whole = folds.judge(spec, 4, FileHandle(tmp_path / "job", datasets=handle.datasets))

    learnt, asked = folds.learnt, []
    monkeypatch.setattr(folds, "learnt", lambda *args: asked.append(1) or learnt(*args))
    again = folds.judge(spec, 4, handle)
    assert not asked and np.array_equal(again.scores, whole.scores)
    (tmp_path / "job" / "checkpoint").unlink()
    fresh = folds.judge(spec, 4, handle)
    assert len(asked) == 4 and np.array_equal(fresh.scores, whole.scores)
    assert (whole.scores.argmax(axis=1) == y).mean() > 0.75 and np.allclose(whole.scores.sum(axis=1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def warm() -> None:
    from tests.support.warm import libraries

    libraries()


def test_rows_that_do_not_fit_into_memory_are_read_by_a_model_that_learns_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: None
) -> None:
    from functools import partial

    from sklearn.linear_model import LogisticRegression
    from tests.support.handle import FileHandle, reader_of
    from torch import nn

    from leptonai.core import plugins
    from leptonai.training import folds

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 150)
    label = np.where(rng.random(150) < 0.3, None, np.where(y == 1, "yes", "no").astype(object))
    reader = reader_of({"a": rng.normal(size=150) + 2 * y, "b": rng.normal(size=150), "y": label}, "y")
    reader.columns = tuple(c.model_copy(update={"nullable": c.name == "y"}) for c in reader.columns)

    def judged(model: Any, compiled: dict[str, Any], name: str) -> Any:
        framework = plugins.framework_of(model)
        packed = framework.pack(model, compiled)
        handle = FileHandle(tmp_path / name, datasets={"made": reader})
        spec = {
            "data": "made", "framework": framework.name, "flavour": packed.flavour, "code": handle.write(packed.code), "epochs": 4,
            "batch_size": 20, "augment": ["noise"],
        }  # fmt: skip
        return folds.judge(spec, 3, handle)

    torch = {"optimizer": "adam", "loss": "cross_entropy"}
    model = nn.Linear(2, 2)
    held = judged(model, torch, "held")
    monkeypatch.setattr(folds, "Rows", partial(folds.Rows, memory=0))
    read = judged(model, torch, "read")
    assert np.array_equal(held.scores, read.scores) and np.array_equal(held.rest_scores, read.rest_scores)
    assert len(held.rest) == sum(value is None for value in label)
    places = np.array([5, 0, 17])
    assert np.array_equal(read.inputs(places), np.concatenate([read.inputs(places[[i]]) for i in range(3)]))
    with pytest.raises(
        Invalid, match=r"that a model of one fit would learn from take about .* GiB, and 2 GiB may be held"
    ):
        judged(LogisticRegression(), {}, "refused")
