"""What a Service keeps in its Site's memory, and that no more is pinned there than there is room for.

The Site's agent says how much room there is (`Room`, among the facts of the Site). What a model takes is guessed by its size
here; the agent, which measures it, has the last word.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from leptonai.core.errors import Conflict, FieldError, NotFound
from leptonai.core.nouns import Memory, Model, Service, Site
from leptonai.core.stages import Changes, Desk

GUESS = 1.5  # bytes in memory for each of a model's file, until it was measured
_SERVICES = 100_000  # of a Site that are looked at


class Room(NamedTuple):
    """What a Site may have in memory at once. None: any number."""

    bytes: int | None = None  # of all serving processes together
    models: int | None = None
    planes: int = 1  # serving processes, each of which holds all models

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Read it from the facts of a Site; one whose agent was never heard of has any room."""
        size, models, planes = (facts.get(name) for name in ("model_memory_mb", "models_resident", "planes"))
        return cls(
            int(size * 2**20) if isinstance(size, int | float) else None,
            models if isinstance(models, int) and models > 0 else None,
            planes if isinstance(planes, int) and planes > 0 else 1,
        )

    def facts(self) -> dict[str, Any]:
        """Return it as the facts of a Site hold it."""
        found = {"models_resident": self.models, "planes": self.planes}
        if self.bytes is not None:
            found["model_memory_mb"] = round(self.bytes / 2**20)
        return {name: value for name, value in found.items() if value is not None}


def keep(name: str, memory: Memory, desk: Desk) -> Changes:
    """Change what a Service keeps in memory. Raises `NotFound`, `Conflict` as `check` does."""
    found = desk.find(Service, {"name": name}, limit=1)
    if not found:
        raise NotFound(f"there is no service {name!r}: see  lepton service list")
    kept: Service = found[0].model_copy(update={"memory": memory})
    check(kept, desk)
    return Changes(change=(kept,))


def check(service: Service, desk: Desk) -> None:
    """Raise `Conflict` when a Service is to be pinned, and the pinned ones of its Site would leave too little room."""
    if not service.memory.pin:
        return
    sites = desk.find(Site, {"name": service.site}, limit=1)
    room = Room.of(sites[0].facts if sites else {})
    others = [it for it in desk.find(Service, {"site": service.site}, limit=_SERVICES) if it.name != service.name]
    pinned = [service, *(it for it in others if it.memory.pin and not it.stopped)]
    free = [it for it in others if not it.memory.pin and not it.stopped]
    ids = dict.fromkeys(it.variants[0].model for it in pinned)
    models = [found for id in ids if (found := _model(id, desk)) is not None]
    if room.models is not None and len(models) + bool(free) > room.models:
        more = ", and another one for the services that are not pinned" if free else ""
        said = f"{_count(len(models))} would be pinned{more}, where models_resident lets {room.models} be in memory"
        raise _full(service, pinned, said)
    size = sum(int(GUESS * model.bytes * room.planes) for model in models)
    if room.bytes is not None and size > room.bytes:
        said = (
            f"the pinned ones would take about {size / 2**20:.0f} MiB of the {room.bytes / 2**20:.0f} of model_memory"
        )
        raise _full(service, pinned, said)


def _model(id: str, desk: Desk) -> Model | None:
    try:
        found: Model = desk.get(Model, id)
    except NotFound:
        return None
    return found


def _count(models: int) -> str:
    return f"{models} model{'s' if models > 1 else ''}"


def _full(service: Service, pinned: Sequence[Service], said: str) -> Conflict:
    others = ", ".join(sorted(it.name for it in pinned[1:])[:10])
    way = f"unpin one of {others}, or raise that setting" if others else "raise that setting"
    return Conflict(
        f"service {service.name} cannot be pinned at site {service.site}: {said}: {way}",
        errors=[FieldError("pin", "more than there is room for")],
    )
