"""How quick a model is while the other serving processes compute it too: what wins alone need not win in company.

A plane is several processes. One that computes by itself has all of the memory's bandwidth, the caches and the cores that it
shares with a neighbour; so what seems to be quicker than the reference is tried again by as many at once as there will be.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean, median
from typing import Any

from leptonai.core.runtimes import LoadedModel

TURN = 0.02  # seconds that one side computes before the other has its turn
FEWEST = 3  # turns of each side, however long they take

Batch = Mapping[str, Any]


def gain(
    reference: Sequence[LoadedModel], other: Sequence[LoadedModel], batches: Mapping[int, Batch], seconds: float
) -> float:
    """Return how many times as many rows a second the `other` models compute, all at once, as those of the reference do.

    `batches`: by their rows. Blocks for about so many seconds; each model is called by one thread only.
    """
    with ThreadPoolExecutor(max(len(reference), len(other)), "crowd") as pool:
        rates: dict[tuple[int, int], list[float]] = {(side, rows): [] for side in (0, 1) for rows in batches}
        until, turn = time.perf_counter() + seconds, 0
        while turn < FEWEST or time.perf_counter() < until:
            for rows, batch in batches.items():
                for side in (turn % 2, 1 - turn % 2):
                    rates[side, rows].append(_rate(pool, (reference, other)[side], batch, rows))
            turn += 1
    first, second = (fmean(median(rates[side, rows]) for rows in batches) for side in (0, 1))
    return second / first


def _rate(pool: ThreadPoolExecutor, models: Sequence[LoadedModel], batch: Batch, rows: int) -> float:
    """Return the rows a second of all models together."""
    until = time.perf_counter() + TURN
    return sum(pool.map(lambda model: _alone(model, batch, rows, until), models))


def _alone(model: LoadedModel, batch: Batch, rows: int, until: float) -> float:
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() < until:
        model.predict(batch)
        calls += 1
    return calls * rows / (time.perf_counter() - start)
