"""Which processes belong to a job, and what they use: read from /proc in one pass (Linux)."""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """One process as it is now. `pid` and `began` together name it for ever; a `pid` alone is used again."""

    pid: int
    parent: int
    session: int
    began: int  # clock ticks since the machine started
    cpu_seconds: float  # its own, and of the children it has waited for
    resident: int  # bytes


def look(pid: int) -> Process | None:
    """Return the process, or None where it is gone (a zombie is gone)."""
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may hold anything; the numbers after it are those of proc(5) from the third on.
    state, *rest = data[data.rindex(b")") + 2 :].split()
    if state in (b"Z", b"X"):
        return None
    numbers = [int(field) for field in rest[:22]]
    return Process(pid, numbers[0], numbers[2], numbers[18], sum(numbers[10:14]) / _TICKS, numbers[20] * _PAGE)


def everybody() -> dict[int, Process]:
    """Return all processes of this machine by pid."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  # names only: it is fast
    return {process.pid: process for process in found if process is not None}


def tree(root: int, all_: dict[int, Process]) -> list[Process]:
    """Return `root` and its descendants, as far as they still hang together, and everybody in the session it leads."""
    children: dict[int, list[int]] = {}
    for process in all_.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, open_ = set(), [root, *(p.pid for p in all_.values() if p.session == root)]
    while open_:
        pid = open_.pop()
        if pid not in found:
            found.add(pid)
            open_ += children.get(pid, [])
    return [all_[pid] for pid in sorted(found) if pid in all_]


def held(process: Process) -> int:
    """Return the bytes that a process holds, with its share of what it shares with others (PSS).

    So pages that a fork has in common with the server it was forked from count little. Costs milliseconds.
    """
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it has just ended, or is not ours to look at
    return process.resident


def end(processes: Iterable[Process]) -> None:
    """Kill processes, each only if it is still the one that was seen."""
    for process in processes:
        now = look(process.pid)
        if now is not None and now.began == process.began:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
