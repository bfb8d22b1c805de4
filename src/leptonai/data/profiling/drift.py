"""Whether two versions hold the same kind of rows, column by column."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leptonai.core.nouns import Column
from leptonai.data.profiling.relations import is_number

_BINS = 10
_LEAST = 1e-4  # share that an empty bin counts as
SHIFTED, DRIFTED = 0.1, 0.25  # of the population stability index, as is usual
_SURE = 0.01


def drift(columns: Sequence[Column], before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return how far each column moved, farthest first.

    `before` and `after`: by column float64 (rows,), NaN where missing, or objects (rows,). PSI is over ten bins of equal counts
    before, or over the categories; the test is that of Kolmogorov and Smirnov, or chi-squared. What is missing counts as a bin.
    """
    found = []
    for column in columns:
        measure = _numbers if is_number(column) else _words
        psi, test, statistic, p = measure(before[column.name], after[column.name])
        sure = p is None or p < _SURE
        verdict = "drifted" if psi >= DRIFTED and sure else "shifted" if psi >= SHIFTED and sure else "same"
        found.append(
            {"column": column.name, "psi": psi, "test": test, "statistic": statistic, "p": p, "verdict": verdict}
        )
    return sorted(found, key=lambda one: (-one["psi"], one["column"]))


def stability(before: np.ndarray, after: np.ndarray) -> float:
    """Return the population stability index of two counts over the same bins."""
    one, other = (np.maximum(counts / max(1, counts.sum()), _LEAST) for counts in (before, after))
    return round(float(((other - one) * np.log(other / one)).sum()), 6)


def _numbers(before: np.ndarray, after: np.ndarray) -> tuple[float, str, float | None, float | None]:
    from scipy.stats import ks_2samp

    one, other = before[np.isfinite(before)], after[np.isfinite(after)]
    edges = np.unique(np.quantile(one, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(one) else np.array([0.0])
    counts = [
        np.append(
            np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1), len(all_) - len(known)
        )
        for known, all_ in ((one, before), (other, after))
    ]
    psi = stability(*counts)
    if not len(one) or not len(other):
        return psi, "ks", None, None
    test = ks_2samp(one, other, method="asymp")
    return psi, "ks", round(float(test.statistic), 6), float(test.pvalue)


def _words(before: np.ndarray, after: np.ndarray) -> tuple[float, str, float | None, float | None]:
    from scipy.stats import chi2_contingency

    tallies = []
    for values in (before, after):
        tally: dict[str, int] = {}
        for value in values.tolist():
            tally["" if value is None else f"={value}"] = tally.get("" if value is None else f"={value}", 0) + 1
        tallies.append(tally)
    often = sorted(tallies[0], key=lambda word: (-tallies[0][word], word))[:50]
    extra = sorted((word for word in tallies[1] if word not in tallies[0]), key=lambda word: (-tallies[1][word], word))[
        :50
    ]
    kept = [*often, *extra]
    counts = np.array(
        [[*(t.get(word, 0) for word in kept), sum(t.values()) - sum(t.get(w, 0) for w in kept)] for t in tallies]
    )
    counts = counts[:, counts.sum(axis=0) > 0]
    psi = stability(counts[0], counts[1])
    if counts.shape[1] < 2 or not counts.sum(axis=1).all():
        return psi, "chi2", None, None
    test = chi2_contingency(counts)
    return psi, "chi2", round(float(test[0]), 6), float(test[1])
