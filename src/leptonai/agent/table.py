"""The table of routes of a Site: what it is to be, and what the planes were told of it.

A service whose Model is not in memory is in the table too; its line says so, and the planes hold its calls.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence

from leptonai.agent.cache import Cache
from leptonai.agent.plane_process import PlaneProcess
from leptonai.core.errors import Unavailable
from leptonai.core.nouns import Model
from leptonai.serving.table import COLD, IDLE, UNLOADED, Line


class Told:
    """Lines by service, with the Models they name. Used under the lock of the `Residence` that holds it."""

    def __init__(self, cache: Cache, alive: Callable[[], list[PlaneProcess]], unloaded: Iterable[str]):
        """`alive`: the planes that run now; `unloaded`: the services that were unloaded by hand."""
        self.lines: dict[str, Line] = {}
        self.sent: dict[str, Line] = {}
        self.users: dict[str, set[str]] = {}  # the services of each Model
        self.models: dict[str, Model] = {}
        self.unloaded = set(unloaded)
        self.idle: set[str] = set()  # services whose Models left because nobody called
        self.shortest = 0.0  # time without a request after which some service lets its Models go; 0: none does
        self.news = 0  # how often what was sent changed
        self._cache = cache
        self._alive = alive

    def take(self, lines: Sequence[Line]) -> tuple[list[Line], set[str], list[str]]:
        """Take what the table is to be. Returns the lines that are new in it, the services that are in it no more, and the ids of the
        Models that no line names any more.
        """
        table = {line.service: line for line in lines}
        changed = [line for line in lines if self.lines.get(line.service) != line]
        gone = self.lines.keys() - table.keys()
        for service in (*gone, *(line.service for line in changed)):
            for id in self.lines[service].models if service in self.lines else ():
                self.users[id].discard(service)
        self.lines = table
        self.unloaded -= {*gone, *(line.service for line in changed if line.pinned)}
        self.idle -= gone
        for line in changed:
            for id in line.models:
                self.users.setdefault(id, set()).add(line.service)
        if changed or gone:
            self.shortest = min((line.idle for line in lines if line.idle), default=0.0)
        left = [id for id, users in self.users.items() if not users] if changed or gone else []
        for id in left:
            del self.users[id]
            self.models.pop(id, None)
        return changed, gone, left

    def away(self) -> tuple[int, dict[str, str]]:
        """Return how often what was sent changed, and why the Models of services are not in memory."""
        return self.news, {line.service: line.absent for line in self.sent.values() if line.absent}

    def kept(self) -> set[str]:
        """Return the models that must stay: pinned ones, those of rollouts, and those that nothing leads to yet."""
        kept = {id for line in self.lines.values() if line.pinned for id in line.models}
        several = {id for line in self.lines.values() if len(line.variants) > 1 for id in line.models}
        return kept | several | {id for id in self._cache.ids if id not in self.users}

    def rests(self, id: str, seconds: float) -> bool:
        """Return whether a Model that was not used for so long may leave memory, as far as each of its services says."""
        spans = [self.lines[service].idle for service in self.users.get(id, ())]
        return bool(spans) and all(0 < span < seconds for span in spans)

    def flagged(self, line: Line) -> Line:
        """Return a line with the word why its Models are away, if they are."""
        if line.service in self.unloaded:
            return line._replace(absent=UNLOADED)
        away = any(id not in self._cache for id in line.models)
        return line._replace(absent=IDLE if line.service in self.idle else COLD) if away else line

    def push(self, services: Iterable[str], drop: Iterable[str] = (), *, force: bool = False) -> None:
        """Send the lines of some services to the planes, as far as they are others now."""
        lines = [self.flagged(self.lines[service]) for service in services if service in self.lines]
        news = [line for line in lines if force or self.sent.get(line.service) != line]
        self.sent |= {line.service: line for line in news}
        for service in (gone := [service for service in drop if service in self.sent]):
            del self.sent[service]
        if news or gone:
            self.news += 1
            self.tell(news, gone)

    def tell(self, lines: Sequence[Line] = (), drop: Sequence[str] = (), free: Sequence[str] = ()) -> None:
        """Send lines, the services that are there no more, and the Models that are to be freed."""
        for plane in self._alive():
            with contextlib.suppress(Unavailable):  # one that died is started again, and told then
                plane.change(lines, self.absent(lines), drop, free)

    def absent(self, lines: Iterable[Line]) -> list[Model]:
        """Return the Models of lines that are not in memory: a plane has to know what it answers for."""
        return [self.models[id] for id in dict.fromkeys(id for line in lines if line.absent for id in line.models)]
