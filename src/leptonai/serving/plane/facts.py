"""What a serving process says of itself in the metrics."""

import os
import time
from pathlib import Path
from typing import Any

from leptonai.serving.plane.recent import Watch
from leptonai.serving.plane.server import Server

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Return how many bytes of memory this process takes."""
    return int(_STATM.read_text().split()[1]) * _PAGE


def facts(slot: int, server: Server, watch: Watch) -> dict[str, Any]:
    """Return memory (bytes), processor time (seconds), connections, and what the logs kept and dropped, since it runs."""
    return {
        "slot": slot,
        "rss": resident(),
        "cpu": round(time.process_time(), 3),
        "connections": len(server.connections),
        "access_dropped": 0 if watch.access is None else watch.access.dropped,
        "predictions_dropped": watch.dropped,
        "predictions_kept": watch.logged,
    }
