"""Classes of unequal size: their weights, and epochs in which each comes equally often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonai.core.errors import Invalid
from leptonai.training.balance import even_order, weights
from leptonai.training.spec import Encoding

labels_of = st.lists(st.integers(0, 4), min_size=1, max_size=300).map(lambda found: np.array(found, np.int64))


def encoding(*classes: str | int) -> Encoding:
    return Encoding(features=(), target="kind", task="classification", classes=classes)


@settings(max_examples=100, deadline=None)
@given(labels_of, st.integers(0, 2**31), st.integers(0, 50))
def test_each_class_comes_equally_often_and_its_rows_too(labels: np.ndarray, seed: int, epoch: int) -> None:
    order = even_order(labels, seed, epoch)
    assert len(order) == len(labels)
    assert np.array_equal(order, even_order(labels, seed, epoch))
    drawn = np.bincount(labels[order], minlength=5)[np.unique(labels)]
    assert drawn.max() - drawn.min() <= 1
    times = np.bincount(order, minlength=len(labels))
    for found in np.unique(labels):
        assert np.ptp(times[labels == found]) <= 1


def test_another_epoch_has_another_order_and_other_rows() -> None:
    labels = np.repeat([0, 1], [90, 10])
    first, second = even_order(labels, 3, 0), even_order(labels, 3, 1)
    assert set(first[labels[first] == 0]) != set(second[labels[second] == 0])


@settings(max_examples=100, deadline=None)
@given(labels_of)
def test_balanced_weights_make_classes_weigh_the_same(labels: np.ndarray) -> None:
    found = np.array(weights("balanced", encoding(*"abcde"), labels))
    together = np.bincount(labels, minlength=5) * found
    present = np.unique(labels)
    assert np.allclose(together[present], len(labels) / len(present))
    assert found[labels].mean() == pytest.approx(1)


def test_the_same_as_scikit_learn_has_them() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [70, 25, 5])
    assert weights("balanced", encoding(*"abc"), labels) == pytest.approx(
        compute_class_weight("balanced", classes=np.arange(3), y=labels)
    )


def test_weights_by_name() -> None:
    labels = np.array([0, 1])
    assert weights({"b": 3.0}, encoding("a", "b"), labels) == (1.0, 3.0)
    assert weights({"7": 3.0}, encoding(7, 8), labels) == (3.0, 1.0)
    with pytest.raises(Invalid, match="kind has no class 'c'; it has a, b"):
        weights({"c": 3.0}, encoding("a", "b"), labels)
