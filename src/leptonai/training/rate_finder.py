"""Finds a learning rate by a short test of many, on a copy of the model, before a training begins.

The range test of Smith 2015 (arXiv:1506.01186): batch by batch the rate grows from next to nothing, until the loss rises. Taken is
the middle of the longest stretch on which the loss, smoothed, falls. Everything follows from seed, rows and model, so an attempt
that finds it again finds the same; one that goes on from a checkpoint reads it there.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from leptonai.core.errors import Invalid
from leptonai.core.learning import Schedule
from leptonai.core.ports import Learner
from leptonai.core.stages import Handle, Shuffle
from leptonai.training import trainee
from leptonai.training.rows import Rows
from leptonai.training.spec import Train

_LOW, _HIGH = 1e-6, 10.0
_MOST, _LEAST = 100, 40  # batches of the test
_SHARE = 4  # of a short training: one batch in so many, at most
_SMOOTH = 0.85
_TOO_HIGH = 4.0  # the loss, against the best: from there it only gets worse


class Found(NamedTuple):
    """What a test found. `losses`: smoothed, by rate; `rate`: None where no rate made the loss fall."""

    rate: float | None
    rates: list[float]
    losses: list[float]


def tested(spec: Train) -> Train:
    """Return the spec of the test: each rate as it is, nothing that would change it, or wait."""
    plain: dict[str, Any] = {"learning_rate": 1.0, "schedule": Schedule(kind="constant"), "ema": None, "accumulate": 1}
    return spec.model_copy(update={"learning": spec.learning.model_copy(update=plain)})


def find(learner: Learner, rows: Rows, spec: Train) -> Found:
    """Test rates with a learner that has begun by `tested`; it is of no more use afterwards."""
    total = spec.epochs * -(-rows.count // spec.batch_size)
    steps = min(_MOST, max(_LEAST, total // _SHARE))
    rates: list[float] = []
    losses: list[float] = []
    average, best = 0.0, math.inf
    for step, (x, y) in zip(range(steps), _batches(rows, spec), strict=False):
        rate = _LOW * (_HIGH / _LOW) ** (step / (steps - 1))
        trainee.rate(learner, rate)
        learner.step(x, y)
        loss = trainee.last_loss(learner)
        if not math.isfinite(loss):
            break
        average = _SMOOTH * average + (1 - _SMOOTH) * loss
        smoothed = average / (1 - _SMOOTH ** (step + 1))
        if step > 5 and smoothed > _TOO_HIGH * best:
            break
        best = min(best, smoothed)
        rates.append(rate)
        losses.append(smoothed)
    return Found(chosen(rates, losses), rates, losses)


def _batches(rows: Rows, spec: Train) -> Iterator[tuple[Any, Any]]:
    epoch = 0
    while True:
        with closing(rows.batches(spec.batch_size, Shuffle(spec.seed, rows.window), epoch)) as batches:
            yield from batches
        epoch += 1


def chosen(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate in the middle of the longest series of losses, each less than the one before; None where none fall."""
    if not losses:
        return None
    longest = [1] * len(losses)
    before = list(range(len(losses)))
    for at in range(len(losses)):
        for other in range(at):
            if losses[other] > losses[at] and longest[other] + 1 > longest[at]:
                longest[at], before[at] = longest[other] + 1, other
    end = start = max(range(len(losses)), key=lambda at: longest[at])
    if longest[end] < 3:
        return None
    while before[start] != start:
        start = before[start]
    return float(f"{rates[(start + end) // 2]:.3g}")


def told(found: Found, handle: Handle) -> float | None:
    """Tell the curve and the choice, and return the rate; None: the optimiser's own. Raises `Invalid` where no rate works."""
    for step, (rate, loss) in enumerate(zip(found.rates, found.losses, strict=True), 1):
        handle.log(step, tested_rate=rate, tested_loss=loss)
    if not found.losses:
        raise Invalid(
            "learning_rate: the loss is not a number already before it learns: look at the rows, and at the model"
        )
    if found.rate is None:
        handle.say("learning_rate: with no rate did the loss fall, so the optimiser's own is taken")
    else:
        handle.say(
            f"learning_rate: {found.rate:g} was found with {len(found.rates)} rates from {_LOW:g} to {found.rates[-1]:.3g}"
        )
    return found.rate
