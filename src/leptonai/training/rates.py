"""The learning rate of each batch, as a share of the optimiser's: a pure function of the place, so that it needs no state.

Only a plateau looks at what was measured; how often it has cut the rate is part of the `Course`, and so of each checkpoint.
"""

import math
from collections.abc import Mapping

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.learning import Schedule
from leptonai.core.ports import Learner
from leptonai.training import trainee
from leptonai.training.checkpoint import Course
from leptonai.training.watch import is_more_better

_RISE = 0.3  # of a one-cycle training, as in the paper
_START = 1 / 25


class Rates:
    """Sets the rate before each batch. `batches`: in an epoch."""

    def __init__(self, schedule: Schedule | None, course: Course, epochs: int, batches: int):
        self._schedule, self._course = schedule, course
        self._epochs, self._batches = epochs, max(1, batches)
        self._last: float | None = None

    def set(self, learner: Learner) -> None:
        """Give the learner the rate of the batch that comes."""
        if self._schedule is None:
            return
        place = self._course.epoch * self._batches + self._course.batch
        now = share(self._schedule, place, self._epochs * self._batches, self._batches) * self._course.rate_cut
        if now != self._last:
            trainee.rate(learner, now)
            self._last = now

    def look(self, metrics: Mapping[str, float]) -> str | None:
        """Cut the rate after an epoch without progress, where the schedule is a plateau; return a line that says so."""
        rule, course = self._schedule, self._course
        if rule is None or rule.kind != "plateau":
            return None
        name = rule.monitor or ("val_loss" if "val_loss" in metrics else "loss")
        if name not in metrics:
            raise Invalid(
                f"schedule: there is no metric {name!r} to watch; measured are {', '.join(metrics)}",
                errors=[FieldError("learning.schedule.monitor", f"one of {', '.join(metrics)}")],
            )
        value = metrics[name]
        best = course.rate_best
        if math.isfinite(value) and (best is None or (value > best if is_more_better(name) else value < best)):
            course.rate_best, course.rate_waited = value, 0
            return None
        course.rate_waited += 1
        if course.rate_waited < rule.patience:
            return None
        course.rate_waited = 0
        course.rate_cut = max(rule.floor, course.rate_cut * rule.factor)
        return f"{name} has not got better for {rule.patience} epochs: the learning rate is {course.rate_cut:.3g} of what it was"


def share(schedule: Schedule, place: int, total: int, batches: int) -> float:
    """Return the share of the full rate for batch number `place` of `total`; an epoch has `batches`."""
    rising = min(total, math.ceil(schedule.warmup * batches))
    if place < rising:
        return (place + 1) / (rising + 1)
    done = (place - rising) / max(1, total - 1 - rising)  # 0 … 1
    if schedule.kind == "cosine":
        return _wave(1.0, schedule.floor, done)
    if schedule.kind == "linear":
        return 1.0 + (schedule.floor - 1.0) * min(1.0, done)
    if schedule.kind == "onecycle":
        if done < _RISE:
            return _wave(_START, 1.0, done / _RISE)
        return _wave(1.0, min(schedule.floor, 1.0), (done - _RISE) / (1 - _RISE))
    if schedule.kind == "step":
        return max(schedule.floor, float(schedule.factor ** (place // batches // schedule.every)))
    return 1.0


def _wave(start: float, end: float, done: float) -> float:
    """Go from start to end along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
