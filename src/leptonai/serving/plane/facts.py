"""What a serving process says of itself in the metrics."""

import os
import time
from pathlib import Path
from typing import Any

from leptonai.serving.plane.router import Router
from leptonai.serving.plane.server import Server
from leptonai.serving.table import COLD, IDLE, UNLOADED

_STATM = Path("/proc/self/statm")
_REASONS = {"memory": COLD, "idle": IDLE, "asked": UNLOADED}
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Return how many bytes of memory this process takes."""
    return int(_STATM.read_text().split()[1]) * _PAGE


def facts(slot: int, server: Server, router: Router) -> dict[str, Any]:
    """Return memory (bytes), processor time (seconds), connections, what the logs kept and dropped, and how models came and
    went, since it runs.
    """
    watch, waiting = router.watch, router.waiting
    return {
        "slot": slot,
        "rss": resident(),
        "cpu": round(time.process_time(), 3),
        "connections": len(server.connections),
        "access_dropped": 0 if watch.access is None else watch.access.dropped,
        "predictions_dropped": watch.dropped,
        "predictions_kept": watch.logged,
        "loads": router.loads,
        "evictions": {word: router.evictions[why] for word, why in _REASONS.items()},
        "waits": waiting.total,
        "waiting": waiting.held,
        "wait_seconds": round(waiting.seconds, 6),
        "remembered": router.remembered,
    }
