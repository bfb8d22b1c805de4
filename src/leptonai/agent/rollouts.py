"""Drives the rollouts of a Site: loads what is to be tried, reads what the planes counted, and tells the server what follows.

What is decided is in `serving.steering`, what becomes of the record in `serving.rollout`; the record is the server's, so a
rollout goes on where it was after any process died. That a bad version loses its requests is never waited for: it does at once
here, and the server is told as soon as it can be.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from leptonai.core import settings
from leptonai.core.errors import Busy, Conflict, LeptonError, NotFound, Unavailable
from leptonai.core.nouns import Model, Rollout, Service, utcnow
from leptonai.core.states import RolloutPhase
from leptonai.sdk.http import Http
from leptonai.serving import steering
from leptonai.serving.rollout import Move
from leptonai.serving.table import Line, Share
from leptonai.serving.tally import Of, Tallies, Tally

LOOK_SECONDS = 0.4
CALM_SECONDS = 5.0  # the same while no rollout goes on, when only the traffic is noted
NOTE_SECONDS = 5.0  # what was counted is kept in the catalog so often
REPLAY_SECONDS = 15.0
COMPARE = 20.0  # requests a second, of each plane, whose answers are compared
WINDOW_SECONDS = 60.0
STEP = -1  # in which requests are replayed, see `serving.plane.replay`

_log = logging.getLogger(__name__)


class Traffic:
    """How many requests each service got lately, whichever of its versions answered."""

    def __init__(self) -> None:
        self._totals: dict[str, deque[tuple[float, int]]] = {}

    def note(self, name: str, total: int, now: float) -> None:
        """Take how many there were in all."""
        kept = self._totals.setdefault(name, deque([(now, 0)]))
        if now - kept[-1][0] >= 1.0 or len(kept) < 2:
            kept.append((now, total))
        else:
            kept[-1] = (kept[-1][0], total)
        while len(kept) > 2 and now - kept[0][0] > WINDOW_SECONDS:
            kept.popleft()

    def lately(self, name: str, now: float) -> tuple[float, int]:
        """Return the requests a second, and the requests of the last minute."""
        kept = self._totals.get(name)
        if not kept:
            return 0.0, 0
        count = kept[-1][1] - kept[0][1]
        return count / max(10.0, now - kept[0][0]), count


class _Held:
    """What this agent knows of one rollout that goes on."""

    def __init__(self, rollout: Rollout):
        self.id = rollout.id
        self.loaded = False
        self.models: dict[str, Model] = {}  # that were loaded for it
        self.bad = ""  # why it was decided against, while the server is still to be told
        self.move: Move | None = None  # that says so
        self.at: tuple[RolloutPhase, int] | None = None
        self.since = 0.0
        self.deaths = 0
        self.noted = 0.0
        self.base: dict[str, Tally] = {}


class Site(Protocol):
    """What the rollouts need of the Site's planes, see `agent.residence`."""

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What they last noted of their counts."""

    @property
    def alive(self) -> Sequence[object]:
        """Those that run."""

    @property
    def deaths(self) -> int:
        """How many died since the agent began."""

    def load(self, model: Model) -> None:
        """Load a version beside what answers. Raises `Invalid` when it cannot be."""


class Rollouts:
    """The rollouts of one Site. Used by one thread."""

    def __init__(self, http: Http, site: Site):
        self._http = http
        self._site = site
        self._held: dict[str, _Held] = {}
        self._ahead: dict[str, Service] = {}  # what the server answered, and the watch has not told yet
        self._traffic = Traffic()
        self._looked = 0.0
        self._tallies = Tallies()
        self._idle = settings.number("idle_seconds")  # of services that do not say

    def newest(self, service: Service) -> Service:
        """Return a service as far as it is known here: what the server answered may be newer than what it told."""
        ahead = self._ahead.get(service.name)
        if ahead is not None and ahead.id == service.id and ahead.rev > service.rev:
            return ahead
        self._ahead.pop(service.name, None)
        return service

    def line(self, service: Service, live: Model) -> Line:
        """Return the line of the table of routes for a service that a model answers for."""
        rollout, held = service.rollout, self._held.get(service.name)
        memory = service.memory
        one = Line.one(service.name, live.id, service.public)._replace(
            pinned=memory.pin,
            idle=self._idle if memory.idle_seconds is None else memory.idle_seconds,
            answers=int(memory.answers_mb * 2**20),
        )
        if rollout is None or not rollout.going or held is None or held.id != rollout.id:
            return one
        if not held.loaded or held.bad:
            return one
        if live.id != service.variants[0].model:
            return one
        guarded = rollout.strategy == "guarded"
        step = STEP if rollout.phase is RolloutPhase.REPLAYING else rollout.step
        return one._replace(
            variants=tuple(Share(v.name, v.model, v.percent) for v in service.variants),
            sticky=service.sticky,
            salt=rollout.id,
            step=step,
            compare=COMPARE if guarded and step >= 0 else 0.0,
            test=rollout.strategy == "test",
        )

    def at_hand(self, service: Service) -> Model | None:
        """Return the stable version of a service if it was loaded beside the one that answers: it takes over at once."""
        held = self._held.get(service.name)
        ready = held is not None and held.loaded and not held.bad
        return held.models.get(service.variants[0].model) if held is not None and ready else None

    def lost(self, model: str, why: str) -> None:
        """Say that a version can be loaded no more, or that planes die of it."""
        for held in self._held.values():
            if model in held.models:
                held.bad = why

    def look(self, wanted: Collection[str]) -> None:
        """Read what the planes counted, when it is time to; forget services that are gone."""
        for name in [name for name in (*self._held, *self._ahead) if name not in wanted]:
            self._held.pop(name, None)
            self._ahead.pop(name, None)
        now = time.monotonic()
        if now - self._looked < (LOOK_SECONDS if self._held else CALM_SECONDS):
            return
        self._looked = now
        self._tallies = Tallies()
        counts = dict.fromkeys(wanted, 0)
        for note in self._site.notes:
            self._tallies.add(note["tallies"])
            for (_model, _version, _variant, service), series in note["series"]:
                if service in counts:
                    counts[service] += sum(count for _, count in series["codes"])
        for service, count in counts.items():
            self._traffic.note(service, count, now)

    def drive(self, service: Service, models: Mapping[str, Model]) -> None:
        """Take the next step of the rollout of a service whose stable version answers, if there is one to take."""
        rollout, deaths = service.rollout, self._site.deaths
        if rollout is None or not rollout.going:
            self._held.pop(service.name, None)
            return
        held = self._held.get(service.name)
        if held is None or held.id != rollout.id:
            held = self._held[service.name] = _Held(rollout)
        new = _named(models.get(rollout.model), rollout.model)
        if held.at != (rollout.phase, rollout.step):
            held.at, held.since, held.deaths = (rollout.phase, rollout.step), time.monotonic(), deaths
            held.noted = held.since
            held.base = _kept(rollout) if not held.loaded else {}  # this agent begins where another one ended
        with contextlib.suppress(Busy, Unavailable):  # the server or a plane is away: the next tick tries again
            if held.bad:
                self._again(service, rollout, held, new)
            elif not held.loaded and not self._load(service, rollout, held, models, new):
                return
            else:
                self._step(service, rollout, held, new, deaths - held.deaths)

    def _load(self, service: Service, rollout: Rollout, held: _Held, models: Mapping[str, Model], new: str) -> bool:
        for variant in service.variants[1:]:
            try:
                if variant.model not in models:
                    raise NotFound("there is no such model version any more")
                self._site.load(models[variant.model])
                held.models[variant.model] = models[variant.model]
            except (Busy, Unavailable):
                raise
            except LeptonError as error:
                self._send(service, steering.unloadable(rollout, new, error.message))
                return False
        held.loaded = True
        return True

    def _step(self, service: Service, rollout: Rollout, held: _Held, new: str, deaths: int) -> None:
        now = time.monotonic()
        if rollout.phase is RolloutPhase.LOADING:
            self._send(service, steering.loaded(rollout, new))
        elif rollout.phase is RolloutPhase.REPLAYING:
            done = self._tally(service, rollout, held, "replay-done").asked
            if done >= len(self._site.alive) or now - held.since > REPLAY_SECONDS:
                stable, other = (self._tally(service, rollout, held, f"replay-{name}") for name in ("stable", "new"))
                rate, minute = self._traffic.lately(service.name, now)
                self._send(service, steering.replayed(rollout, new, stable, other, rate, minute))
        else:
            stable, other = self._tally(service, rollout, held, "stable"), self._tally(service, rollout, held, "canary")
            if rollout.strategy in ("shadow", "split") and len(service.variants) > 1:
                other = self._tally(service, rollout, held, service.variants[1].name)
            move = None
            if rollout.phase is RolloutPhase.CANARY:
                move = steering.look(rollout, new, stable, other, utcnow(), deaths)
            elif rollout.strategy == "test":
                move = steering.compared(rollout, new, stable, other, utcnow())
            if move is None and now - held.noted > NOTE_SECONDS:
                held.noted = now
                move = steering.noted(rollout, stable, other)
            if move is not None:
                self._send(service, move)

    def _tally(self, service: Service, rollout: Rollout, held: _Held, variant: str) -> Tally:
        step = STEP if rollout.phase is RolloutPhase.REPLAYING else rollout.step
        found = Tally()
        found.add(self._tallies.get(Of(service.name, rollout.id, step, variant)).note())
        if variant in held.base:
            found.add(held.base[variant].note())
        return found

    def _again(self, service: Service, rollout: Rollout, held: _Held, new: str) -> None:
        """Tell the server anew of a version that was decided against."""
        self._send(service, held.move or steering.unloadable(rollout, new, held.bad))

    def _send(self, service: Service, move: Move) -> None:
        """Have the server carry a move out. A version that is turned back gets no more requests meanwhile."""
        held = self._held[service.name]
        if move.what == "rollback":
            held.bad, held.move = move.text or "it was turned back", move
        if move.what != "note":
            _log.warning("service %s: %s", service.name, move.text)
        try:
            path = f"/services/{quote(service.name)}/rollout"
            answer = self._http.call("PUT", path, json=move.model_dump(mode="json"))
        except (Conflict, NotFound):  # it is elsewhere by now, or gone: the watch tells
            return
        self._ahead[service.name] = Service.model_validate(answer)


def _named(model: Model | None, id: str) -> str:
    return id if model is None else f"{model.name}/{model.version}"


def _kept(rollout: Rollout) -> dict[str, Tally]:
    made: dict[str, Tally] = {}
    for name, note in (
        ("stable", rollout.seen.get("stable")),
        ("canary", rollout.seen.get("other")),
        ("shadow", rollout.seen.get("other")),
    ):
        if note is not None:
            made[name] = Tally()
            made[name].add(note)
    return made
