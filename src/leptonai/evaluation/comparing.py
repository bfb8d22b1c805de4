"""Whether one model is worse than another on the same rows: paired tests, which only look at where the two differ."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_RESAMPLES = 2000
_CELLS = 4_000_000


def classifiers(own: Array, other: Array) -> dict[str, Any]:
    """Compare by McNemar's exact test. `own`, `other`: whether each row's class is right, bool (rows,).

    Of the rows that one of the two has right and the other has not, half would be each one's if they were as good (McNemar,
    Psychometrika 12, 1947); `p` is the chance that as few, or fewer, are one's own: small where it is worse.
    """
    from scipy import stats

    gained, lost = int((own & ~other).sum()), int((other & ~own).sum())
    p = float(stats.binom.cdf(gained, gained + lost, 0.5)) if gained + lost else 1.0
    return {
        "test": "McNemar, exact",
        "metric": "accuracy",
        "rows": len(own),
        "own": float(own.mean()),
        "other": float(other.mean()),
        "gained": gained,
        "lost": lost,
        "p": p,
    }


def regressors(own: Array, other: Array, seed: int) -> dict[str, Any]:
    """Compare by a paired bootstrap of the mean difference. `own`, `other`: the absolute error of each row, (rows,).

    `p` is the share of resamples of the rows, shifted so that the two are as good, that are as bad or worse (Efron & Tibshirani,
    1993, 16.4), with one added to both counts. Of more than 20,000 rows the difference is normal, and no resample is drawn.
    """
    difference = own - other
    observed, rows = float(difference.mean()), len(own)
    if not difference.any():
        p = 1.0
    elif rows > 20_000:
        from scipy import stats

        p = float(stats.norm.sf(observed / (difference.std(ddof=1) / rows**0.5)))
    else:
        random, centred, over = np.random.default_rng(seed), difference - observed, 0
        step = max(1, _CELLS // rows)
        for at in range(0, _RESAMPLES, step):
            count = min(step, _RESAMPLES - at)
            means = centred[random.integers(0, rows, (count, rows))].mean(1)
            over += int((means >= observed).sum())
        p = (over + 1) / (_RESAMPLES + 1)
    return {
        "test": "paired bootstrap",
        "metric": "mae",
        "rows": rows,
        "own": float(own.mean()),
        "other": float(other.mean()),
        "p": p,
    }
