"""What was in memory, written down so that it is again after a restart; and how much may be, by the settings."""

import json
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from leptonai.agent.cache import Budget
from leptonai.core import settings
from leptonai.core.errors import Invalid
from leptonai.serving.pinning import Room

KEEP_SECONDS = 5.0  # how often it is written at most

_log = logging.getLogger(__name__)


class ResidentFile:
    """The file, and what it said when the agent began; nothing when there is none, or it cannot be read."""

    def __init__(self, path: Path):
        self.warm: list[str] = []  # ids of Models, what was used last at the end
        self.unloaded: list[str] = []  # names of services that somebody unloaded
        self.costs: dict[str, int] = {}  # bytes that Models took
        self._path = path
        self._text = ""
        self._at = float("-inf")
        try:
            kept = json.loads(path.read_text("utf-8"))
            costs = {str(id): int(cost) for id, cost in kept["costs"].items()}
            warm, unloaded = [str(id) for id in kept["warm"]], [str(name) for name in kept["unloaded"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return
        self.warm, self.unloaded, self.costs = warm, unloaded, costs

    @property
    def due(self) -> bool:
        """Whether it was not written just now."""
        return time.monotonic() - self._at >= KEEP_SECONDS

    def write(self, warm: Sequence[str], unloaded: Collection[str], costs: Mapping[str, int]) -> None:
        """Write it, if it says something else than before."""
        self._at = time.monotonic()
        text = json.dumps({"warm": list(warm), "unloaded": sorted(unloaded), "costs": dict(costs)})
        if text == self._text:
            return
        new = self._path.with_suffix(".new")
        try:
            new.write_text(text, "utf-8")
            new.replace(self._path)
        except OSError as error:  # the next start loads something else first
            _log.warning("what is in memory could not be written down: %s", error)
        else:
            self._text = text


def budget() -> Budget:
    """Return what the settings say of memory. Raises `Invalid`."""
    text = (settings.get("model_memory") or "").strip()
    try:
        if text.endswith("%"):
            machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            most = int(machine * float(text.removesuffix("%")) / 100)
        else:
            most = int(float(text) * 2**20)
    except ValueError:
        raise Invalid(f"setting model_memory is {text!r}: use MiB such as '4096', or a share such as '50%'") from None
    return Budget(most, int(settings.number("models_resident")) or None)


def room() -> Room:
    """Return the same for the facts of the Site, by which the server says what may be pinned. Raises `Invalid`."""
    most = budget()
    return Room(most.bytes, most.models, int(settings.number("planes")))
