"""The models that are tried, in the order in which they are tried: the cheap ones first, then settings drawn from a seed."""

import importlib.util
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

# By kind and family: the library that it needs beyond what every installation has, and the extra that brings it.
_NEEDS = {("table", "lightgbm"): ("lightgbm", "boosting"), ("image", "network"): ("torch", "torch")}
BASELINE = "baseline"  # the family that is tried whatever was asked for, and however little time there is


@dataclass(frozen=True)
class Candidate:
    """A model to be tried: what `models.made` makes it of."""

    name: str
    family: str
    words: str
    settings: dict[str, Any] = field(default_factory=dict)


_BASE = Candidate("baseline", BASELINE, "the most frequent class, or the mean, whatever the row")

_TABLE = (
    _BASE,
    Candidate("linear", "linear", "a linear model on scaled numbers and one column for each category"),
    Candidate("boosting", "boosting", "gradient boosted trees of scikit-learn as they come"),
    Candidate("lightgbm", "lightgbm", "gradient boosted trees of LightGBM", {"n_estimators": 200, "learning_rate": 0.06}),
    Candidate("forest", "forest", "extremely randomised trees", {"n_estimators": 150, "min_samples_leaf": 2}),
    Candidate("network", "network", "a network of two hidden layers", {"hidden_layer_sizes": [128, 64]}),
    Candidate(
        "boosting-slow",
        "boosting",
        "gradient boosted trees, small steps until a tenth of the rows is told no better",
        {"learning_rate": 0.04, "max_iter": 2000, "max_leaf_nodes": 31, "min_samples_leaf": 10, "max_features": 0.5,
         "early_stopping": True, "n_iter_no_change": 20},
    ),
    Candidate(
        "lightgbm-slow",
        "lightgbm",
        "gradient boosted trees of LightGBM, small steps, each tree from some of the columns",
        {"n_estimators": 500, "learning_rate": 0.03, "num_leaves": 24, "colsample_bytree": 0.5, "min_child_samples": 15,
         "categories": "places"},
    ),
    Candidate(
        "lightgbm-long",
        "lightgbm",
        "gradient boosted trees of LightGBM, small steps, and many of them",
        {"n_estimators": 3000, "learning_rate": 0.03, "num_leaves": 31, "colsample_bytree": 0.5, "min_child_samples": 10,
         "reg_lambda": 1.0},
    ),
    Candidate("boosting-onehot", "boosting", "gradient boosted trees, one column for each category", {"categories": "onehot"}),
)  # fmt: skip

_TEXT = (
    _BASE,
    Candidate("bayes", "bayes", "naive Bayes on words", {"alpha": 0.3}),
    Candidate("words", "words", "a linear model of words and pairs of words, weighed by how rare they are", {"C": 3.0}),
    Candidate("letters", "letters", "a linear model of pieces of words, 2 to 4 letters long", {"C": 3.0}),
    Candidate("words-sharp", "words", "a linear model of words and pairs of words, held back less", {"C": 20.0}),
    Candidate("letters-sharp", "letters", "a linear model of pieces of words, held back less", {"C": 20.0}),
    Candidate("words-mild", "words", "a linear model of words and pairs of words, held back more", {"C": 0.5}),
)

_MOVED: list[dict[str, Any]] = [{"op": "shift", "by": 0.08}]
_MIRRORED: list[dict[str, Any]] = [{"op": "flip"}]


def _taught(epochs: int, *augment: dict[str, Any], **learning: Any) -> dict[str, Any]:
    """Return the settings of a network of pictures: the rate up and down once, over all epochs."""
    lessons = {"schedule": {"kind": "onecycle"}, "learning_rate": 5e-3, "weight_decay": 0.3, **learning}
    return {"epochs": epochs, "learning": lessons, "augment": list(augment)}


_IMAGE = (
    _BASE,
    Candidate("forest-few", "forest", "some extremely randomised trees on pixels", {"n_estimators": 20, "min_samples_leaf": 1}),
    Candidate("network-short", "network", "a small convolutional network, two epochs", _taught(2)),
    Candidate("forest", "forest", "extremely randomised trees on pixels", {"n_estimators": 150, "min_samples_leaf": 1}),
    Candidate("network", "network", "a small convolutional network, a few epochs", _taught(12)),
    Candidate("network-mirrored", "network", "a small convolutional network, half of the pictures mirrored, labels a little unsure", _taught(20, *_MIRRORED, label_smoothing=0.1)),
    Candidate("network-moved", "network", "a small convolutional network, pictures moved a little", _taught(20, *_MOVED)),
    Candidate("linear", "linear", "a linear model on pixels"),
)  # fmt: skip

_RATINGS = (
    _BASE,
    Candidate("biases", "biases", "what each user and each item adds to the mean", {"rank": 0, "shrink": 5.0}),
    Candidate("factors", "factors", "biases, and 8 factors of users and items", {"rank": 8, "strength": 0.13}),
    Candidate("factors-few", "factors", "biases, and 3 factors of users and items", {"rank": 3, "strength": 0.1}),
    Candidate("factors-many", "factors", "biases, and 24 factors of users and items", {"rank": 24, "strength": 0.14}),
    Candidate("biases-mild", "biases", "what each user and each item adds to the mean, held back more", {"rank": 0, "shrink": 15.0}),
)  # fmt: skip

_SERIES = (
    Candidate("baseline", BASELINE, "as it was a season before", {"made": "Naive"}),
    Candidate("last", "naive", "as it was last", {"made": "Naive", "seasonal": False}),
    Candidate("smoothing", "smoothing", "exponential smoothing with a season and a damped trend", {"made": "Smoothing"}),
    Candidate("lags-linear", "lags", "a linear model of what was before, and of the calendar", {"made": "Lagged", "model": "linear"}),
    Candidate("lags", "lags", "gradient boosted trees on what was before, and on the calendar", {"made": "Lagged"}),
    Candidate("seasons", "naive", "the mean of four seasons before", {"made": "Naive", "seasons": 4}),
    Candidate("smoothing-plain", "smoothing", "exponential smoothing with a damped trend", {"made": "Smoothing", "seasonal": False}),
    Candidate("smoothing-logs", "smoothing", "the same of logarithms, with a season: both are multiplied", {"made": "Smoothing", "logs": True}),
)  # fmt: skip


def _boosting(draw: random.Random) -> dict[str, Any]:
    return {
        "learning_rate": round(10 ** draw.uniform(-1.7, -0.7), 4),
        "max_iter": 2000,
        "max_leaf_nodes": draw.choice([7, 12, 20, 31, 63]),
        "min_samples_leaf": draw.choice([3, 8, 20, 50]),
        "l2_regularization": draw.choice([0.0, 0.1, 1.0, 10.0]),
        "max_features": draw.choice([0.3, 0.5, 0.8, 1.0]),
        "early_stopping": True,
        "n_iter_no_change": 20,
        "categories": draw.choice(["split", "split", "places", "onehot"]),
    }


def _lightgbm(draw: random.Random) -> dict[str, Any]:
    return {
        "n_estimators": draw.choice([300, 1000, 3000]),
        "learning_rate": round(10 ** draw.uniform(-1.8, -0.9), 4),
        "num_leaves": draw.choice([7, 15, 31, 63]),
        "min_child_samples": draw.choice([5, 15, 40]),
        "colsample_bytree": draw.choice([0.3, 0.5, 0.8, 1.0]),
        "reg_lambda": draw.choice([0.0, 1.0, 10.0]),
        "categories": draw.choice(["split", "split", "places"]),
    }


def _network(draw: random.Random) -> dict[str, Any]:
    return {
        "hidden_layer_sizes": draw.choice([[64], [256], [128, 128], [256, 64]]),
        "alpha": draw.choice([1e-5, 1e-3, 1e-1]),
        "learning_rate_init": draw.choice([3e-4, 1e-3, 3e-3]),
    }


def _pictures(draw: random.Random) -> dict[str, Any]:
    changes: list[dict[str, Any]] = draw.choice(
        [[], _MIRRORED, _MOVED, [*_MIRRORED, *_MOVED], [*_MIRRORED, {"op": "crop", "least": 0.8}], [{"op": "cutout"}]]
    )
    return _taught(
        draw.choice([10, 16, 24, 36]),
        *changes,
        learning_rate=round(10 ** draw.uniform(-2.6, -1.8), 4),
        weight_decay=draw.choice([0.0, 0.1, 0.3]),
        label_smoothing=draw.choice([0.0, 0.05, 0.1]),
        dropout=draw.choice([0.1, 0.3, 0.5]),
    )


def _factors(draw: random.Random) -> dict[str, Any]:
    return {
        "rank": draw.choice([2, 4, 8, 16, 32]),
        "strength": round(10 ** draw.uniform(-1.5, -0.6), 4),
        "shrink": draw.choice([2.0, 5.0, 10.0]),
    }


def _lags(draw: random.Random) -> dict[str, Any]:
    settings = {
        "learning_rate": round(10 ** draw.uniform(-1.7, -0.9), 4),
        "max_iter": draw.choice([100, 200, 400]),
        "max_leaf_nodes": draw.choice([7, 15, 31]),
        "min_samples_leaf": draw.choice([20, 60, 200]),
        "max_features": draw.choice([0.5, 1.0]),
    }
    return {"made": "Lagged", "settings": settings}


_Drawn = Callable[[random.Random], dict[str, Any]]
_DRAWN: dict[str, tuple[tuple[str, _Drawn, str], ...]] = {
    "table": (
        ("boosting", _boosting, "gradient boosted trees of scikit-learn, settings drawn"),
        ("lightgbm", _lightgbm, "gradient boosted trees of LightGBM, settings drawn"),
        ("boosting", _boosting, "gradient boosted trees of scikit-learn, settings drawn"),
        ("network", _network, "a network, settings drawn"),
    ),
    "image": (("network", _pictures, "a small convolutional network, settings drawn"),),
    "ratings": (("factors", _factors, "biases and factors, settings drawn"),),
    "series": (("lags", _lags, "gradient boosted trees on what was before, settings drawn"),),
}
_FIXED = {"table": _TABLE, "text": _TEXT, "image": _IMAGE, "ratings": _RATINGS, "series": _SERIES}


def names(kind: str) -> tuple[str, ...]:
    """Return the families that there are for a kind of problem, without the baseline."""
    found = [one.family for one in _FIXED[kind]] + [family for family, _, _ in _DRAWN.get(kind, ())]
    return tuple(dict.fromkeys(family for family in found if family != BASELINE))


def lacking(kind: str) -> dict[str, str]:
    """Return the families that cannot be tried here, and the extra that each needs."""
    return {
        family: extra
        for (of, family), (library, extra) in _NEEDS.items()
        if of == kind and importlib.util.find_spec(library) is None
    }


def planned(kind: str, families: tuple[str, ...], most: int, seed: int) -> Iterator[Candidate]:
    """Yield at most so many candidates, the baseline first; only of these families, where some are named."""
    count = 0
    families = families or tuple(name for name in names(kind) if name not in lacking(kind))
    for one in _FIXED[kind]:
        if count < most and (one.family == BASELINE or one.family in families):
            count += 1
            yield one
    drawn = [one for one in _DRAWN.get(kind, ()) if one[0] in families]
    for number in range(most - count if drawn else 0):
        family, settings, words = drawn[number % len(drawn)]
        draw = random.Random(f"{seed}/{kind}/{number}")  # noqa: S311  no secret
        yield Candidate(f"{family}-{number + 1}", family, words, settings(draw))
