"""The table of routes of a Site: what it is to be, and what the planes were told of it.

A service whose Model is not in memory is in the table too; its line says so, and the planes hold its calls.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence

from leptonai.agent.cache import Cache
from leptonai.agent.plane_process import PlaneProcess
from leptonai.core.errors import Unavailable
from leptonai.core.nouns import Model
from leptonai.serving.table import COLD, UNLOADED, Line


class Told:
    """Lines by service, with the Models they name. Used under the lock of the `Residence` that holds it."""

    def __init__(self, cache: Cache, alive: Callable[[], list[PlaneProcess]], unloaded: Iterable[str]):
        """`alive`: the planes that run now; `unloaded`: the services that were unloaded by hand."""
        self.lines: dict[str, Line] = {}
        self.sent: dict[str, Line] = {}
        self.users: dict[str, set[str]] = {}  # the services of each Model
        self.models: dict[str, Model] = {}
        self.pinned: Collection[str] = ()  # services whose Models stay in memory
        self.unloaded = set(unloaded)
        self._cache = cache
        self._alive = alive

    def kept(self) -> set[str]:
        """Return the models that must stay: pinned ones, those of rollouts, and those that nothing leads to yet."""
        kept = {id for service in self.pinned if service in self.lines for id in self.lines[service].models}
        several = {id for line in self.lines.values() if len(line.variants) > 1 for id in line.models}
        return kept | several | {id for id in self._cache.ids if id not in self.users}

    def flagged(self, line: Line) -> Line:
        """Return a line with the word why its Models are away, if they are."""
        if line.service in self.unloaded:
            return line._replace(absent=UNLOADED)
        away = any(id not in self._cache for id in line.models)
        return line._replace(absent=COLD) if away else line

    def push(self, services: Iterable[str], drop: Iterable[str] = (), *, force: bool = False) -> None:
        """Send the lines of some services to the planes, as far as they are others now."""
        lines = [self.flagged(self.lines[service]) for service in services if service in self.lines]
        news = [line for line in lines if force or self.sent.get(line.service) != line]
        self.sent |= {line.service: line for line in news}
        for service in (gone := [service for service in drop if service in self.sent]):
            del self.sent[service]
        if news or gone:
            self.tell(news, gone)

    def tell(self, lines: Sequence[Line] = (), drop: Sequence[str] = (), free: Sequence[str] = ()) -> None:
        """Send lines, the services that are there no more, and the Models that are to be freed."""
        for plane in self._alive():
            with contextlib.suppress(Unavailable):  # one that died is started again, and told then
                plane.change(lines, self.absent(lines), drop, free)

    def absent(self, lines: Iterable[Line]) -> list[Model]:
        """Return the Models of lines that are not in memory: a plane has to know what it answers for."""
        return [self.models[id] for id in dict.fromkeys(id for line in lines if line.absent for id in line.models)]
