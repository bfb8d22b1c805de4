"""Classifiers of scikit-learn that treat groups alike, by the reductions of Fairlearn, and say the same of a row each time.

Exponentiated gradient (Agarwal et al. 2018, arXiv:1803.02453) fits the estimator again and again with other weights of rows, and keeps
the constraint only by drawing one of those fits for each prediction. Here nothing is drawn: of the fits that it made, and the plain one,
the two (and their shares in a vote) are taken whose mean probability, cut at one half, errs least while it keeps the constraint. A
majority of all fits would do no such thing: on a table of wages it left a tree as unfair as it was before.
"""

from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.core.errors import FieldError, MissingExtra, Unsupported
from leptonai.core.learning import Mitigate

Array = NDArray[Any]
_ROUNDS = 20  # of exponentiated gradient; each is a fit or two
_SHARES = np.arange(0.5, 1.0, 0.05)  # of the first of two in a vote
_ROWS = 100_000  # by which votes are compared


class Mitigated(NamedTuple):
    """A fitted model, the one that the same rows make without it, and what was found, in words."""

    model: Any
    plain: Any
    words: str


def check(model: Any) -> None:
    """Raise `Unsupported` for one that cannot be part of a vote, `MissingExtra` where Fairlearn is not installed."""
    from leptonai.adapters.frameworks.sklearn import reads_texts

    try:
        import fairlearn.reductions  # noqa: F401
    except ImportError as error:
        raise MissingExtra("mitigate needs Fairlearn:  pip install 'lepton-ai-sdk[evaluation]'") from error
    name = type(model).__name__
    if reads_texts(model) or not hasattr(model, "predict_proba"):
        lacks = "reads texts" if reads_texts(model) else "gives no probabilities"
        raise Unsupported(
            f"mitigate: {name} {lacks}: take a classifier of tables with predict_proba, such as HistGradientBoostingClassifier",
            errors=[FieldError("learning.mitigate", "a classifier with predict_proba")],
        )


def mitigated(model: Any, x: Array, y: Array, rule: Mitigate, groups: Array, weighing: str) -> Mitigated:
    """Fit `model` so that groups are treated alike. `y`: 0 or 1; `groups`: int64 (rows,); `weighing`: how `fit` takes weights of rows."""
    from fairlearn import reductions
    from sklearn.base import clone

    kinds = {"demographic_parity": reductions.DemographicParity, "equalized_odds": reductions.EqualizedOdds}
    # Fairlearn bounds the distance of each group from all rows, which is half of that between two groups.
    found = reductions.ExponentiatedGradient(
        model, kinds[rule.constraint](difference_bound=rule.within / 2), max_iter=_ROUNDS, sample_weight_name=weighing
    )
    found.fit(x, y, sensitive_features=groups)
    plain = clone(model, safe=False).fit(x, y)
    fits = [plain, *(fit for fit in found.predictors_ if len(fit.classes_) == 2)]  # others are constants
    some = np.random.default_rng(0).permutation(len(x))[:_ROWS]
    first, second, share, gap = _best(np.array([positive(fit, x[some]) for fit in fits]), y[some], groups[some], rule)
    words = f"mitigate: {len(fits)} fits, of which {1 + (share < 1)} vote"
    if gap > rule.within:
        words += f"; a difference of {gap:.3g} is the least that was found, and {rule.within:g} was asked for"
    return Mitigated(fits[first] if share == 1 else _vote(model, fits[first], fits[second], share, y), plain, words)


def _best(scores: Array, y: Array, groups: Array, rule: Mitigate) -> tuple[int, int, float, float]:
    """Return the two fits, the share of the first, and the gap; of those within the bound the one that errs least, else the least gap."""
    name = _DIFFERENCES[rule.constraint]
    tried: list[tuple[float, float, int, int, float]] = []
    votes = [(number, number, 1.0) for number in range(len(scores))]
    votes += [(a, b, float(share)) for a, b in permutations(range(len(scores)), 2) for share in _SHARES]
    for a, b, share in votes:
        told = figures(y, share * scores[a] + (1 - share) * scores[b], groups)
        tried.append((told[name], 1 - told["accuracy"], a, b, share))
    kept = [one for one in tried if one[0] <= rule.within]
    gap, _, a, b, share = min(kept, key=lambda one: one[1]) if kept else min(tried)
    return a, b, share, gap


_DIFFERENCES = {"demographic_parity": "parity_difference", "equalized_odds": "odds_difference"}


def figures(y: Array, scores: Array, groups: Array) -> dict[str, float]:
    """Return accuracy, and the largest differences between groups, of scores (rows,) cut at one half.

    parity: of the share that is said to be positive · odds: of the true or of the false positive rate, the larger one. Groups without a
    row of a class have no rate of it.
    """
    said = scores > 0.5
    cells = np.bincount(groups * 2 + y, minlength=2 * (int(groups.max()) + 1)).reshape(-1, 2)
    chosen = np.bincount(groups * 2 + y, weights=said, minlength=cells.size).reshape(-1, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates, share = chosen / cells, chosen.sum(axis=1) / cells.sum(axis=1)
    return {
        "accuracy": float(np.mean(said == (y == 1))),
        "parity_difference": _between(share),
        "odds_difference": max(_between(rates[:, 0]), _between(rates[:, 1])),
    }


def _between(rates: Array) -> float:
    there = rates[~np.isnan(rates)]
    return float(np.ptp(there)) if len(there) else 0.0


def positive(model: Any, x: Array) -> Array:
    """Return the probability of the second class, (rows,)."""
    return np.asarray(model.predict_proba(x)[:, 1])


def _vote(model: Any, first: Any, second: Any, share: float, y: Array) -> Any:
    """Return two fits as one fitted estimator of scikit-learn: kept, exported and explained as any other."""
    from sklearn.base import clone
    from sklearn.ensemble import VotingClassifier
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils import Bunch

    names = ("first", "second")
    vote = VotingClassifier(
        [(name, clone(model, safe=False)) for name in names], voting="soft", weights=np.array([share, 1 - share])
    )
    words = LabelEncoder().fit(y)
    fitted = {"estimators_": [first, second], "named_estimators_": Bunch(first=first, second=second)}
    vars(vote).update(fitted, le_=words, classes_=words.classes_)
    return vote
