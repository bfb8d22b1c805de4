"""The processes of one Run that has several: forked from its first one before it has a thread, and watched by it.

They stay in the process group of the first, so whatever ends that ends them. When one of them is lost the attempt is over: the
first process says why, and the Run is taken up again from its last checkpoint.
"""

import ctypes
import json
import os
import select
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leptonai.core.errors import FieldError, Invalid
from leptonai.core.ranks import Rank

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def fork(count: int, folder: Path) -> tuple[Rank, dict[int, int]]:
    """Become `count` processes; return which of them this is and, in the first, the ids of the others by their numbers.

    Raises `Invalid` where the machine has too few cores.
    """
    cores = max(2, len(os.sched_getaffinity(0)))
    if count > cores:
        raise Invalid(
            f"workers={count}: this machine has {cores} cores: use at most {cores}, or a Site that is a cluster",
            errors=[FieldError("workers", f"at most {cores}")],
        )
    meet, parent = str(folder / "ranks"), os.getpid()
    others: dict[int, int] = {}
    for number in range(1, count):
        pid = os.fork()
        if pid == 0:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)
            return Rank(number, count, meet), {}
        others[number] = pid
    return Rank(0, count, meet), others


def leave_word(folder: Path, rank: Rank, outcome: Mapping[str, Any]) -> None:
    """Leave how this process ended, for the first one to tell."""
    fresh = folder / f"rank{rank.number}.new"
    fresh.write_text(json.dumps(outcome))
    fresh.rename(folder / f"rank{rank.number}.json")


class Watch:
    """Looks after the other processes; `lost` is called, in a thread, with what is to be told of the first that fails."""

    def __init__(
        self, rank: Rank, others: Mapping[int, int], folder: Path, well: tuple[int, ...], lost: Callable[..., None]
    ):
        self._rank, self._folder, self._well, self._lost = rank, folder, well, lost
        self._open = {os.pidfd_open(pid): (number, pid) for number, pid in others.items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ranks", daemon=True)
        self._thread.start()

    def over(self) -> None:
        """Say that the work is done: how the others end does not matter any more."""
        self._over.set()

    def wait(self, seconds: float) -> None:
        """Give it time to find out who was lost: then it does not return."""
        self._thread.join(seconds)

    def _run(self) -> None:
        poller = select.poll()
        for fd in self._open:
            poller.register(fd, select.POLLIN)
        while self._open:
            for fd, _ in poller.poll():
                poller.unregister(fd)
                number, pid = self._open.pop(fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.close(fd)
                if code not in self._well and not self._over.is_set():
                    self._lost(**self._said(number, code))
                    return

    def _said(self, number: int, code: int) -> dict[str, Any]:
        word = self._folder / f"rank{number}.json"
        if word.exists():
            return dict(json.loads(word.read_text()))
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code} before it was done"
        return {"words": f"{Rank(number, self._rank.of).words} {how}"}
