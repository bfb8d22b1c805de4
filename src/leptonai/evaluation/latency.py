"""How long a model takes for one row: the model alone, in the process that measures it, without a network or a queue."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_MOST, _SECONDS, _WARM = 200, 2.0, 3


def of_one_row(scores: Callable[[Mapping[str, Any]], Any], batch: Mapping[str, Any]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds of asking for the rows of a batch one by one, and of how many (`rows`)."""
    count = len(next(iter(batch.values()), ()))
    took: list[float] = []
    until = time.perf_counter() + _SECONDS
    for turn in range(_MOST + _WARM if count else 0):
        row = {name: values[turn % count : turn % count + 1] for name, values in batch.items()}
        began = time.perf_counter()
        scores(row)
        ended = time.perf_counter()
        if turn >= _WARM or ended > until:
            took.append(1000 * (ended - began))
        if ended > until:
            break
    if not took:
        return {}
    p50, p99 = np.percentile(took, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "rows": len(took)}
