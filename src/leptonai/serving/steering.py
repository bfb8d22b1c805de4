"""What is to become of a rollout, given what was counted: pure decisions, each a `Move` with its reason in one sentence."""

from datetime import datetime
from math import log
from typing import Any, Literal

from leptonai.core.nouns import Rollout
from leptonai.core.states import RolloutPhase
from leptonai.serving import sequential
from leptonai.serving.judging import Verdict, figures, judge
from leptonai.serving.rollout import Move
from leptonai.serving.sequential import Stream
from leptonai.serving.tally import Tally

NONE = 10  # requests in the last minute that are no traffic: a canary would learn nothing
LEAST = 20  # requests of the canary for which a step is worth its while
DWELL_SECONDS = 2.0  # the shortest step, so that one moment is not taken for all
DEATHS = 2  # of a serving plane, while it has the new version


def replayed(rollout: Rollout, new: str, stable: Tally, other: Tally, rate: float, minute: int) -> Move:
    """Return what follows from the replay. `new` names the new version; `rate`: requests a second now, `minute`: in the last one."""
    verdict = judge(rollout.guard, stable, other)
    facts = {**figures(stable, other), "requests_per_second": round(rate, 3)}
    if other.asked and other.failed == other.asked and stable.asked:
        text = f"{new} could answer none of the {other.asked} recorded requests, so it got no traffic"
        return _move(rollout, "rollback", text, facts)
    if verdict.harm:
        text = f"replaying recorded requests, {_reasons(verdict)}: {new} got no traffic"
        return _move(rollout, "rollback", text, facts)
    done = f"{new} was replayed {other.asked} recorded requests: {_found(verdict)}" if other.asked else (
        f"{new} computed its first batches; there were no recorded requests to replay"
    )  # fmt: skip
    if minute < NONE:
        text = f"{done}. There is no traffic to try it on ({minute} requests in a minute), so by policy it answers all"
        return _move(rollout, "promote", text, facts)
    steps = paced(rollout.guard.steps, rate, rollout.guard.step_seconds)
    shorter = (
        "" if steps == rollout.guard.steps else f" At {rate:.3g} requests a second smaller steps would show nothing."
    )
    text = f"{done}. It gets {steps[0]} % of the requests.{shorter}"
    return _move(rollout, "replayed", text, facts, steps=steps)


def paced(steps: tuple[int, ...], rate: float, seconds: float) -> tuple[int, ...]:
    """Return the steps in which the canary will see enough requests to be worth them; the last one in any case."""
    steps = tuple(step for step in steps if 0 < step < 100) or (50,)
    return tuple(step for step in steps if rate * seconds * step / 100 >= LEAST) or steps[-1:]


def look(rollout: Rollout, new: str, stable: Tally, other: Tally, now: datetime, deaths: int = 0) -> Move | None:
    """Return the move that a canary's counts call for, or None: go on. `deaths`: of planes, in this step."""
    verdict, facts = judge(rollout.guard, stable, other), figures(stable, other)
    percent, seconds = rollout.guard.steps[rollout.step], (now - rollout.since).total_seconds()
    facts |= {"percent": percent, "seconds": round(seconds, 1)}
    if deaths >= DEATHS:
        text = f"a serving plane died {deaths} times while {new} had {percent} % of the requests"
        return _move(rollout, "rollback", text, facts | {"deaths": deaths})
    if verdict.harm:
        text = f"with {percent} % of the requests {_reasons(verdict)}"
        return _move(rollout, "rollback", f"{text}: {new} was taken away", facts)
    if verdict.fine and seconds >= min(DWELL_SECONDS, rollout.guard.step_seconds):
        why = f"{new} held with {percent} % of the requests: {_found(verdict)}"
    elif seconds >= rollout.guard.step_seconds:
        open = ", ".join(found.about for found in verdict.unsure)
        why = f"nothing spoke against {new} with {percent} % of the requests in {seconds:.0f} s ({_found(verdict)})"
        why += f"; not enough was seen to be sure of: {open}" if open else ""
    else:
        return None
    if rollout.step + 1 == len(rollout.guard.steps):
        return _move(rollout, "promote", f"{why}. It answers all", facts)
    return _move(rollout, "step", f"{why}. It gets {rollout.guard.steps[rollout.step + 1]} %", facts)


def compared(rollout: Rollout, new: str, stable: Tally, other: Tally, now: datetime) -> Move | None:
    """Return the end of a test of two versions by what callers said of their answers, or None: go on.

    It ends when the means differ (the always-valid p-value is at most `Guard.alpha`), when they are shown to differ by less
    than `Guard.horizon`, or when the time of its steps is over; only a version that is better is kept.
    """
    one, base = Stream(other.told, other.liked), Stream(stable.told, stable.liked)
    evidence, guard = sequential.differ(one, base), rollout.guard
    p = min(sequential.p_value(evidence), float(rollout.seen.get("p", 1.0)))
    said = f"{new} was worth {one.mean:.4g} ({one.n:,.0f} answers), the stable version {base.mean:.4g} ({base.n:,.0f})"
    facts = {**figures(stable, other), "p": p}
    if p <= guard.alpha and evidence > 0:
        if one.mean > base.mean:
            return _move(
                rollout, "promote", f"{said}: better, with an always-valid p of {p:.2g}. It answers all", facts
            )
        return _move(rollout, "rollback", f"{said}: worse, with an always-valid p of {p:.2g}. It was taken away", facts)
    apart = log(2 / guard.alpha)
    if sequential.less(one, base, guard.horizon) >= apart and sequential.less(base, one, guard.horizon) >= apart:
        text = f"{said}: they differ by less than {guard.horizon:g}, so the stable version stays"
        return _move(rollout, "rollback", text, facts)
    seconds = (now - rollout.since).total_seconds()
    if seconds >= guard.step_seconds:
        text = f"{said}: no difference was shown in {seconds / 3600:.3g} hours (p {p:.2g}), so the stable version stays"
        return _move(rollout, "rollback", text, facts)
    return None


def noted(rollout: Rollout, stable: Tally, other: Tally) -> Move:
    """Return the move that changes nothing and keeps what was counted."""
    move = _move(rollout, "note", "", {})
    p = sequential.p_value(sequential.differ(Stream(other.told, other.liked), Stream(stable.told, stable.liked)))
    least = min(p, float(rollout.seen.get("p", 1.0)))
    return move.model_copy(update={"seen": {"stable": stable.note(), "other": other.note(), "p": least}})


def loaded(rollout: Rollout, new: str) -> Move:
    """Return the move of a version that is loaded."""
    return _move(rollout, "loaded", f"{new} is loaded, warmed, and has computed its first batches", {})


def unloadable(rollout: Rollout, new: str, reason: str) -> Move:
    """Return the move of a version that cannot be loaded."""
    return _move(rollout, "rollback", f"{new} could not be loaded: {reason}"[:2000], {"loaded": False})


def _move(
    rollout: Rollout,
    what: Literal["loaded", "replayed", "step", "promote", "rollback", "note"],
    text: str,
    facts: dict[str, Any],
    steps: tuple[int, ...] | None = None,
) -> Move:
    phase: RolloutPhase = rollout.phase
    return Move(rollout=rollout.id, phase=phase, step=rollout.step, what=what, text=text, figures=facts, steps=steps)


def _reasons(verdict: Verdict) -> str:
    return "; ".join(found.text for found in verdict.harm)


def _found(verdict: Verdict) -> str:
    return "; ".join(found.text for found in verdict.findings if "unknown" not in found.text)
