"""What became of a rollout and why, in sentences."""

from typing import Any

from leptonai.core.errors import NotFound
from leptonai.core.nouns import Model, Rollout, Service
from leptonai.core.stages import Desk
from leptonai.core.states import RolloutPhase
from leptonai.serving.judging import figures, judge
from leptonai.serving.tally import Tally


def tell(service: Service, desk: Desk) -> dict[str, Any]:
    """Return ``{"service", "phase", "sentences", "story"}``: the story as it was decided, and where it stands now."""
    found = service.rollout
    answers = ", ".join(f"{_say(v.model, desk)} ({v.name}, {v.percent} %)" for v in service.variants)
    if found is None:
        return {
            "service": service.name,
            "phase": None,
            "sentences": [f"{answers} answers; nothing else was deployed yet."],
            "story": [],
        }
    sentences = [f"{decision.time:%Y-%m-%d %H:%M:%S} UTC: {decision.text}." for decision in found.story]
    sentences.append(_now(found, answers))
    return {
        "service": service.name,
        "phase": found.phase,
        "sentences": sentences,
        "story": [decision.model_dump(mode="json") for decision in found.story],
    }


def _now(found: Rollout, answers: str) -> str:
    if not found.going:
        return f"Now: {answers}."
    if found.phase is RolloutPhase.LOADING:
        return f"Now: the new version is being loaded; {answers}."
    if found.phase is RolloutPhase.REPLAYING:
        return f"Now: recorded requests are replayed; {answers}."
    stable, other = Tally(), Tally()
    if found.seen:
        stable.add(found.seen["stable"])
        other.add(found.seen["other"])
    if found.strategy == "test":
        facts = figures(stable, other)
        return f"Now: {answers}; told so far: {other.told} of the new one, {stable.told} of the stable one {facts}."
    seen = "; ".join(
        finding.text for finding in judge(found.guard, stable, other).findings if "unknown" not in finding.text
    )
    until = f" The step takes {found.guard.step_seconds:g} s at most." if found.phase is RolloutPhase.CANARY else ""
    return f"Now: {answers}. So far {seen}.{until}"


def _say(id: str, desk: Desk) -> str:
    try:
        model = desk.get(Model, id)
    except NotFound:
        return id
    return f"{model.name}/{model.version}"
