"""The access log of the serving planes beside this server, for who asks from elsewhere. The planes write it, see `serving.plane.access`.

Of each file only the end is read, so that an answer costs little however long the log is.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TAIL = 1 << 20  # bytes of each file


def lines(home: Path, service: str, after: str, limit: int) -> list[dict[str, Any]]:
    """Return the last lines of a service, oldest first; `after`: only those of that time ("2026-01-31T10:00:00.000Z") and later."""
    found = [
        line
        for path in (home / "logs").glob("access-*.jsonl*")
        for line in _tail(path)
        if line.get("service") == service and str(line.get("time")) >= after
    ]
    return sorted(found, key=lambda line: str(line["time"]))[-limit:]


def _tail(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            data = file.read(TAIL)
    except OSError:  # it was moved aside just now
        return
    for line in data.splitlines():
        if line.startswith(b"{") and line.endswith(b"}"):  # the first one may be cut, and the last one be half written
            try:
                made = json.loads(line)
            except ValueError:
                continue
            yield made
