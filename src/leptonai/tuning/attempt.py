"""One trial: it learns with its settings, and what came of it is told; in the Run's own process, or in one that helps it."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from leptonai.core.errors import FieldError, Invalid, LeptonError
from leptonai.core.stages import Handle
from leptonai.tuning.spec import Goal, Kept, Trial
from leptonai.tuning.watch import Line, Pruned, Watch

MEASURED = ("seconds", "parameters", "latency_ms")  # goals that are no metrics of a training


class Tried(NamedTuple):
    """How a trial ended. `keep` writes its model down; None where there is none."""

    trial: Trial
    keep: Callable[[], Kept] | None = None


def attempt(
    bench: Any, goals: Sequence[Goal], handle: Handle, line: Line, number: int, params: Mapping[str, Any]
) -> Tried:
    """Have a trial learn. Whatever its code raises is the end of this trial only; what the platform raises is not its fault.

    `bench`: a `training.trials.Trials`. Raises `Invalid` where a goal is nothing that a training measures.
    """
    watch = Watch(handle, line, number, goals[0].metric)
    began = time.perf_counter()
    about: dict[str, Any] = {"number": number, "params": dict(params)}
    try:
        learnt = bench.learn(about["params"], watch, tuple(goal.metric for goal in goals))
    except Pruned:
        spent = time.perf_counter() - began
        curve = tuple(watch.curve)
        return Tried(Trial(state="pruned", values=curve[-1:], curve=curve, epochs=len(curve), seconds=spent, **about))
    except (Exception, SystemExit) as error:
        if isinstance(error, LeptonError) and not isinstance(error, Invalid):
            raise
        spent = time.perf_counter() - began
        return Tried(Trial(state="failed", error=_words(error), curve=tuple(watch.curve), seconds=spent, **about))
    metrics = {name: value for name, value in learnt.metrics.items() if math.isfinite(value)}
    _check(goals, learnt.metrics)
    values = tuple(float(learnt.metrics.get(goal.metric, math.nan)) for goal in goals)
    about |= {"metrics": metrics, "epochs": learnt.epochs, "seconds": time.perf_counter() - began}
    about["curve"] = tuple(watch.curve) if len(goals) == 1 else ()
    if bad := [g.metric for g, value in zip(goals, values, strict=True) if not math.isfinite(value)]:
        return Tried(Trial(state="failed", error=f"{bad[0]} is not a number: it learnt nothing", **about))

    def keep() -> Kept:
        document, fitted = learnt.keep()
        return Kept(spec=document, fitted=fitted)

    return Tried(Trial(state="done", values=values, **about), keep)


def _check(goals: Sequence[Goal], metrics: Mapping[str, float]) -> None:
    for goal in goals:
        if goal.metric not in metrics and goal.metric not in MEASURED:
            known = ", ".join([*metrics, *MEASURED])
            raise Invalid(
                f"goals: a training measures no {goal.metric!r}; measured are {known}",
                errors=[FieldError("goals", f"one of {known}")],
            )


def _words(error: BaseException) -> str:
    if isinstance(error, LeptonError):
        return error.message[:500]
    if isinstance(error, MemoryError):
        return "there was not enough memory"
    kind = type(error).__name__
    short = " ".join(str(error).split())[:400]
    return f"{kind}: {short}" if short else kind
