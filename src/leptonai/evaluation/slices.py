"""Where a model is worst: subgroups of one level or of two, found by looking at all of them, and judged for having looked.

Each subgroup of at least `least` rows is tested one-sided against the other rows: wrong classes by the exact hypergeometric tail
(Fisher), errors of numbers by their ranks (Wilcoxon). Those are reported whose p-value, corrected by Benjamini & Hochberg (JRSS B 57,
1995) over every subgroup that was tested, is at most `LEVEL`. Of a level and a pair within it only what adds something is: a pair that is
worse than the rest of both its levels, a level that is still worse without that pair.

The search over levels and pairs is that of Slice Finder (Chung, Kraska, Polyzotis, Tae & Whang, ICDE 2019), to its second depth.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from leptonai.evaluation.subgroups import Levels

Array = NDArray[Any]
LEVEL = 0.01  # of false discoveries
_ADDS = 0.01  # p-value from which a pair adds nothing to its levels
_WORK = 600_000_000  # rows times pairs of columns that are counted
_SHOWN = 20


class Slice(NamedTuple):
    """One subgroup. `where`: (column, level) of one or two; sums are of errors, and of what the test looks at."""

    where: tuple[tuple[int, int], ...]
    rows: int
    errors: float
    tested: float


class Search(NamedTuple):
    """What is compared: the error of each row, and what the test looks at (the error itself, or its rank)."""

    errors: Array  # (rows,) float64, 0 or 1 for classes
    looked: Array  # (rows,) float64
    exact: bool  # whether the errors are 0 or 1

    def p(self, rows: Array, sums: Array, of_rows: Array | float, of_sums: Array | float, spread: float) -> Array:
        """Return the chance that so many of the errors, or greater ones, fall to so many rows of a whole."""
        from scipy import stats

        rows, sums = np.asarray(rows, float), np.asarray(sums, float)
        of_rows, of_sums = np.broadcast_arrays(np.asarray(of_rows, float), np.asarray(of_sums, float))[0:2]
        if self.exact:
            exact: Array = np.nan_to_num(stats.hypergeom.sf(sums - 1, of_rows, of_sums, rows), nan=1.0)
            return exact
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (sums - rows * of_sums / of_rows) / np.sqrt(rows * (of_rows - rows) / of_rows * spread)
        tail: Array = stats.norm.sf(np.nan_to_num(z, nan=0.0))
        return tail


def search_of(errors: Array, *, exact: bool) -> Search:
    """Return the search for rows with great errors; of numbers their ranks are tested, so that no single row decides."""
    if exact:
        return Search(errors, errors, exact=True)
    from scipy.stats import rankdata

    return Search(errors, rankdata(errors).astype(np.float64), exact=False)


def find(search: Search, columns: Sequence[Levels], notes: list[str]) -> dict[str, Any]:
    """Return the subgroups that are worse than the rest, the worst first, how many were tested, and how."""
    rows = len(search.errors)
    least = max(20, -(-rows // 200))
    of_sums, spread = float(search.looked.sum()), float(search.looked.var(ddof=1)) if rows > 1 else 0.0
    singles = [one for at, column in enumerate(columns) for one in _counted(search, (at,), (column,))]
    fitting = max(2, int(math.sqrt(2 * _WORK / max(1, rows))))
    if len(columns) > fitting:
        notes.append(f"pairs are looked at among the first {fitting} of {len(columns)} columns")
    pairs = [
        one
        for (a, left), (b, right) in combinations(list(enumerate(columns))[:fitting], 2)
        for one in _counted(search, (a, b), (left, right))
    ]
    tried = [one for one in (*singles, *pairs) if least <= one.rows <= rows - least]
    empty = {"tested": len(tried), "least_rows": least, "level": LEVEL, "found": []}
    if not tried or spread == 0:
        return empty
    p = search.p(np.array([one.rows for one in tried]), np.array([one.tested for one in tried]), rows, of_sums, spread)
    q = corrected(p)
    bad = {one.where: (one, float(p[at]), float(q[at])) for at, one in enumerate(tried) if q[at] <= LEVEL}
    known = {one.where: one for one in singles}
    kept = _telling(search, bad, known, rows, of_sums, spread, least)
    mean, all_errors = float(search.errors.mean()), float(search.errors.sum())
    lines: list[dict[str, Any]] = []
    for one, p_one, q_one in kept:
        inside, rest = one.errors / one.rows, (all_errors - one.errors) / (rows - one.rows)
        lines.append(
            {
                "where": {columns[at].name: columns[at].words[level] for at, level in one.where},
                "rows": one.rows,
                "error": inside,
                "rest": rest,
                "difference": inside - rest,
                "p": p_one,
                "q": q_one,
            }
        )
    noise = float(search.errors.std()) or 1.0
    lines.sort(key=lambda line: -(line["error"] - mean - 1.64 * noise / math.sqrt(line["rows"])))
    return empty | {"found": lines[:_SHOWN]}


def corrected(p: Array) -> Array:
    """Return p-values corrected for their number by Benjamini & Hochberg."""
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    found = np.empty(len(p))
    found[order] = np.minimum(1, np.minimum.accumulate(scaled[::-1])[::-1])
    return found


def _counted(search: Search, at: tuple[int, ...], columns: tuple[Levels, ...]) -> list[Slice]:
    """Return every subgroup of the levels of one column or two."""
    sizes = [len(column.words) for column in columns]
    codes = columns[0].codes.astype(np.int32)
    if len(columns) == 2:
        other = columns[1].codes
        codes = np.where((codes < 0) | (other < 0), -1, codes * sizes[1] + other)
    total = int(np.prod(sizes))
    codes = np.where(codes < 0, total, codes)  # rows of no level are counted, and left
    rows = np.bincount(codes, minlength=total + 1)[:total]
    errors = np.bincount(codes, weights=search.errors, minlength=total + 1)[:total]
    looked = errors if search.exact else np.bincount(codes, weights=search.looked, minlength=total + 1)[:total]
    places = [np.unravel_index(number, sizes) for number in range(total)]
    return [
        Slice(
            tuple((column, int(level)) for column, level in zip(at, place, strict=True)),
            int(rows[number]),
            float(errors[number]),
            float(looked[number]),
        )
        for number, place in enumerate(places)
        if rows[number]
    ]


def _telling(
    search: Search,
    bad: dict[tuple[tuple[int, int], ...], tuple[Slice, float, float]],
    known: dict[tuple[tuple[int, int], ...], Slice],
    rows: int,
    of_sums: float,
    spread: float,
    least: int,
) -> list[tuple[Slice, float, float]]:
    """Return those that say something which no other one of them says already."""
    pairs = []
    for where, found in bad.items():
        one = found[0]
        if len(where) == 2 and all(
            search.p(np.array([one.rows]), np.array([one.tested]), parent.rows, parent.tested, spread)[0] < _ADDS
            for parent in (known[(part,)] for part in where)
            if parent.rows > one.rows
        ):
            pairs.append(found)
    singles = []
    for where, found in bad.items():
        if len(where) == 1:
            inside = [pair for pair, _, _ in pairs if where[0] in pair.where]
            if all(_still(search, found[0], pair, rows, of_sums, spread, least) for pair in inside):
                singles.append(found)
    return [*singles, *pairs]


def _still(search: Search, one: Slice, pair: Slice, rows: int, of_sums: float, spread: float, least: int) -> bool:
    """Whether a level is worse than the others without the rows of a pair."""
    left = one.rows - pair.rows
    if left < least:
        return False
    p = search.p(
        np.array([left]), np.array([one.tested - pair.tested]), rows - pair.rows, of_sums - pair.tested, spread
    )
    return bool(p[0] < _ADDS)
