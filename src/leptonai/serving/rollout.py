"""How a Service moves from one version to another: the states of a rollout and its legal moves. Pure; the catalog keeps it.

The agent of the Site proposes a `Move`, the server carries it out on the record if it still is about the phase and the step
that the rollout is in. So two agents, one that was away, or one that says the same twice, move nothing twice.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from leptonai.core.errors import Conflict, FieldError, Invalid
from leptonai.core.ids import new_id
from leptonai.core.nouns import Decision, Frozen, Guard, Rollout, Service, Variant, utcnow
from leptonai.core.states import RolloutPhase, ServiceState

HISTORY = 20  # versions that a service remembers
FIRST, LAST = 20, 30  # decisions that a record keeps; the audit keeps all

LOADING, REPLAYING, CANARY, WATCHING = (
    RolloutPhase.LOADING,
    RolloutPhase.REPLAYING,
    RolloutPhase.CANARY,
    RolloutPhase.WATCHING,
)


class Move(Frozen):
    """What is to become of a rollout, decided by figures. `phase` and `step`: those it was in when that was decided."""

    rollout: str
    phase: RolloutPhase
    step: int = 0
    what: Literal["loaded", "replayed", "step", "promote", "rollback", "note"]
    text: str = Field(default="", max_length=2000)
    figures: dict[str, Any] = Field(default_factory=dict)
    seen: dict[str, Any] = Field(default_factory=dict)
    steps: tuple[int, ...] | None = None  # what is left of the guard's steps, where the traffic is thin


def check(variants: tuple[Variant, ...]) -> None:
    """Raise `Invalid` unless the first is the stable one, none is there twice, and their per cents are 100 together."""
    names = [variant.name for variant in variants]
    if names[:1] != ["stable"] or len(set(names)) != len(names):
        right = "one stable version first, then at most one canary and one shadow"
        raise Invalid(
            f"the variants of a service are {right}, not {', '.join(names) or 'none'}",
            errors=[FieldError("variants", right)],
        )
    total = sum(variant.percent for variant in variants if variant.name != "shadow")
    if total != 100:
        said = " + ".join(f"{v.name} {v.percent}" for v in variants if v.name != "shadow")
        right = f"must sum to 100 per cent; {said} is {total}"
        raise Invalid(f"the traffic of stable and canary {right}", errors=[FieldError("variants", right)])


def begin(
    service: Service, model: str, strategy: str, guard: Guard, by: str, text: str, others: tuple[Variant, ...]
) -> Service:
    """Return the service with a rollout to a model begun; `others` are its variants beside the stable one."""
    stable = Variant(
        model=service.variants[0].model, percent=100 - sum(v.percent for v in others if v.name == "canary")
    )
    variants = (stable, *others)
    check(variants)
    made = Rollout(
        id=new_id("roll"),
        strategy=strategy,
        model=model,
        before=stable.model,
        by=by,
        guard=guard,
        story=(Decision(what="began", text=text),),
    )
    return service.model_copy(update={"variants": variants, "rollout": made})


def settled(service: Service, move: Move, now: datetime | None = None) -> Service:
    """Return the service after a move. Raises `Conflict` when the rollout is over, or is not where the move thinks it is."""
    rollout, now = service.rollout, now or utcnow()
    if rollout is None or not rollout.going:
        raise Conflict(f"service {service.name} has no rollout that goes on")
    if (rollout.id, rollout.phase, rollout.step) != (move.rollout, move.phase, move.step):
        raise Conflict(f"the rollout of service {service.name} is at {rollout.phase}, step {rollout.step + 1}, by now")
    change: dict[str, Any] = {"seen": move.seen}
    variants, more = service.variants, dict[str, Any]()
    if move.what == "loaded":
        change |= {"phase": REPLAYING if rollout.strategy == "guarded" else WATCHING, "since": now, "seen": {}}
    elif move.what in ("replayed", "step"):
        guard = rollout.guard if move.steps is None else rollout.guard.model_copy(update={"steps": move.steps})
        step = 0 if move.what == "replayed" else rollout.step + 1
        change |= {"phase": CANARY, "step": step, "since": now, "seen": {}, "guard": guard}
        percent = guard.steps[step]
        variants = (
            Variant(model=variants[0].model, percent=100 - percent),
            Variant(name="canary", model=rollout.model, percent=percent),
        )
    elif move.what == "promote":
        change |= {"phase": RolloutPhase.PROMOTED, "since": now}
        variants = (Variant(model=rollout.model),)
        more["history"] = remembered(service, rollout.before)
        if rollout.phase is not LOADING:  # it is loaded, so it answers from now on
            more["status"] = service.status.model_copy(update={"live": (rollout.model,)})
    elif move.what == "rollback":
        change |= {"phase": RolloutPhase.ROLLED_BACK, "since": now}
        variants = (Variant(model=rollout.before or variants[0].model),)
    if move.text:
        words = {"promote": "promoted", "rollback": "rolled back"}
        decision = Decision(time=now, what=words.get(move.what, move.what), text=move.text, figures=move.figures)
        change["story"] = told(rollout.story, decision)
    return service.model_copy(update={"variants": variants, "rollout": rollout.model_copy(update=change), **more})


def told(story: tuple[Decision, ...], decision: Decision) -> tuple[Decision, ...]:
    """Return a story with one more decision; of a long one the middle is left out."""
    longer = (*story, decision)
    return longer if len(longer) <= FIRST + LAST else (*longer[:FIRST], *longer[-LAST:])


def remembered(service: Service, before: str | None) -> tuple[str, ...]:
    """Return the versions that answered before, when one more does."""
    return service.history if before is None else (*service.history, before)[-HISTORY:]


def ended(service: Service, what: Literal["promote", "rollback"], text: str, by: str) -> Service:
    """Return the service with its rollout ended at once, by somebody's wish."""
    rollout = service.rollout
    if rollout is None or not rollout.going:
        raise Conflict(f"service {service.name} has no rollout that goes on")
    move = Move(
        rollout=rollout.id,
        phase=rollout.phase,
        step=rollout.step,
        what=what,
        text=text,
        seen=rollout.seen,
        figures={"by": by},
    )
    return settled(service, move)


def state_of(service: Service) -> tuple[ServiceState, str]:
    """Return what a Service is doing while its stable version answers, and why."""
    rollout = service.rollout
    if rollout is None or (rollout.strategy in ("shadow", "split", "test") and rollout.going):
        return ServiceState.READY, ""
    last = rollout.story[-1].text if rollout.story else ""
    if rollout.going:
        return ServiceState.UPDATING, last
    if rollout.phase is RolloutPhase.ROLLED_BACK and rollout.story:
        facts = rollout.story[-1].figures
        if "by" not in facts and (rollout.strategy == "guarded" or facts.get("loaded") is False):
            return ServiceState.FAILED, last
    return ServiceState.READY, ""
