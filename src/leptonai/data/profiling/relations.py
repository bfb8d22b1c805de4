"""How columns go together, told from a sample: correlations, and what one column alone knows of the target."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from leptonai.core.nouns import Column
from leptonai.core.signature import FeatureType

Values = Mapping[str, np.ndarray]  # numbers as float64, with NaN where missing; others as codes, with -1 where missing
_MOST_NUMBERS, _MOST_CATEGORIES, _MOST_FEATURES = 60, 30, 300
NUMERIC = (FeatureType.NUMBER, FeatureType.INTEGER, FeatureType.DATETIME)
_WIDEST = 200  # categories of a column that is compared with others
_LEARNT_ROWS = 10_000
_LEAF = 10  # rows


def is_number(column: Column) -> bool:
    """Whether its values are ordered and apart by amounts."""
    return column.type in NUMERIC


def correlations(columns: Sequence[Column], values: Values) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return Pearson's and Spearman's coefficients of numbers, and Cramér's V of categories; then notes."""
    from scipy.stats import rankdata

    notes = []
    numbers = [
        c.name for c in columns if is_number(c) and len(np.unique(values[c.name][np.isfinite(values[c.name])])) > 1
    ]
    words = [c.name for c in columns if not is_number(c) and 2 <= values[c.name].max(initial=-1) + 1 <= _WIDEST]
    for found, most, what in ((numbers, _MOST_NUMBERS, "numbers"), (words, _MOST_CATEGORIES, "categories")):
        if len(found) > most:
            notes.append(f"correlations are those of the first {most} of {len(found)} columns of {what}")
            del found[most:]
    answer: dict[str, dict[str, Any]] = {}
    if len(numbers) > 1:
        table = [values[name] for name in numbers]
        answer["pearson"] = {"names": numbers, "values": _pairs(table, _pearson)}
        ranked = [rankdata(one) if np.isfinite(one).all() else one for one in table]

        def by_rank(one: np.ndarray, other: np.ndarray) -> float | None:
            if len(one) == len(ranked[0]):  # neither lacks a value: both are ranked already
                return _pearson(one, other)
            return _pearson(rankdata(one), rankdata(other))

        answer["spearman"] = {"names": numbers, "values": _pairs(ranked, by_rank)}
    if len(words) > 1:
        answer["cramers_v"] = {"names": words, "values": _pairs([values[name] for name in words], cramers_v)}
    return answer, notes


def _pairs(table: Sequence[np.ndarray], measure: Any) -> list[list[float | None]]:
    known = [np.isfinite(column) if column.dtype.kind == "f" else column >= 0 for column in table]
    found: list[list[float | None]] = [[None] * len(table) for _ in table]
    for i, one in enumerate(table):
        found[i][i] = 1.0
        for j in range(i):
            both = known[i] & known[j]
            value = measure(one[both], table[j][both]) if both.sum() > 2 else None
            found[i][j] = found[j][i] = None if value is None or not np.isfinite(value) else round(float(value), 6)
    return found


def _pearson(one: np.ndarray, other: np.ndarray) -> float | None:
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt(np.dot(a, a)) * np.sqrt(np.dot(b, b)))
    return float(np.dot(a, b)) / size if size else None


def cramers_v(one: np.ndarray, other: np.ndarray) -> float | None:
    """Return Cramér's V of two columns of codes (rows,), with the correction for bias of Bergsma (2013)."""
    from scipy.stats import chi2_contingency

    one, other = np.unique(one, return_inverse=True)[1], np.unique(other, return_inverse=True)[1]
    wide, count = int(other.max()) + 1, len(one)
    table = np.bincount(one * wide + other, minlength=(int(one.max()) + 1) * wide).reshape(-1, wide)
    rows, columns = table.shape
    if min(rows, columns) < 2:
        return None
    phi2 = float(chi2_contingency(table, correction=False)[0]) / count
    phi2 = max(0.0, phi2 - (columns - 1) * (rows - 1) / (count - 1))
    rows_, columns_ = rows - (rows - 1) ** 2 / (count - 1), columns - (columns - 1) ** 2 / (count - 1)
    least = min(rows_, columns_) - 1
    return min(1.0, float(np.sqrt(phi2 / least))) if least > 0 else None


def power(
    columns: Sequence[Column], target: Column, values: Values, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return how well each column alone tells the target, from 0 (not at all) to 1, best first; then notes.

    By a small decision tree on rows that it did not learn from: for classes the balanced accuracy above chance, for values R².
    A column that scores near 1 most likely holds the target in another form, or was written after it was known.
    """
    answer = values[target.name]
    known = np.isfinite(answer) if is_number(target) else answer >= 0
    rows = np.flatnonzero(known)
    rows = np.random.default_rng(seed).permutation(rows)[:_LEARNT_ROWS]
    features = [c for c in columns if c.name != target.name]
    notes = []
    if len(features) > _MOST_FEATURES:
        notes.append(f"the power of single columns is that of the first {_MOST_FEATURES} of {len(features)}")
    if len(rows) < 10 * _LEAF or len(np.unique(answer[rows])) < 2:
        return [], ["the power of single columns is not told: there are too few rows with different targets"]
    found = []
    for column in features[:_MOST_FEATURES]:
        score = _score(values[column.name][rows], answer[rows], classes=not is_number(target), seed=seed)
        found.append({"column": column.name, "score": round(score, 4)})
    return sorted(found, key=lambda one: (-one["score"], one["column"])), notes


def _score(given: np.ndarray, answer: np.ndarray, *, classes: bool, seed: int) -> float:
    from sklearn.metrics import balanced_accuracy_score, r2_score
    from sklearn.model_selection import KFold
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    x = np.nan_to_num(given.astype("float64"), nan=-1e18).clip(-1e30, 1e30).reshape(-1, 1)
    # Classes count alike: else a column that makes a rare class likely, but never the likeliest, would seem to tell nothing.
    kind: Any = partial(DecisionTreeClassifier, class_weight="balanced") if classes else DecisionTreeRegressor
    guesses = np.empty(len(answer), answer.dtype)
    for train, test in KFold(3, shuffle=True, random_state=seed).split(x):
        tree = kind(max_leaf_nodes=64, min_samples_leaf=_LEAF, random_state=seed).fit(x[train], answer[train])
        guesses[test] = tree.predict(x[test])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if classes:
            chance = 1 / len(np.unique(answer))
            return max(0.0, (float(balanced_accuracy_score(answer, guesses)) - chance) / (1 - chance))
        return max(0.0, float(r2_score(answer, guesses)))
