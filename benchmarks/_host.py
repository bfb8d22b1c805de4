"""The host of a virtual machine, which takes the processors away for others: what is measured meanwhile says nothing.

Linux counts that time as stolen. Nor does it say anything while threads of who was measured before still work. So a benchmark waits,
before it measures, until both are over, and measures again, or leaves out, what was disturbed all the same. Where nothing is counted, on
hardware of one's own, all this costs a probe of each turn.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psutil

Found = TypeVar("Found")

DISTURBED = 0.05  # share of the time of all processors that was taken; more of it, and a figure is not believed
PROBE_SECONDS = 0.4  # only a processor that has work to do is taken away
PAUSE_SECONDS = 5.0
REST_PERCENT = 15.0  # of all processors: what servers that wait for their turn use, and a little more
REST_SECONDS = 20.0  # that is waited for it, at most
AGAIN = 3  # times that one figure is measured, at most
_COUNT_TO = f"import time; e = time.monotonic() + {PROBE_SECONDS}\nwhile time.monotonic() < e: pass"

patience = 900.0  # seconds that a whole benchmark may wait for its host


@dataclass
class Watched:
    """`share` of the time of all processors that the host took meanwhile."""

    share: float = 0.0

    @property
    def disturbed(self) -> bool:
        """Whether it took too much."""
        return self.share > DISTURBED


@contextmanager
def watched() -> Iterator[Watched]:
    """Watch what the host takes while something is measured."""
    seen, began, before = Watched(), time.perf_counter(), _stolen()
    yield seen
    seen.share = (_stolen() - before) / (time.perf_counter() - began) / (os.cpu_count() or 1)


def calm() -> None:
    """Wait until those who were measured before rest, and the host has time, as long as the benchmark has patience."""
    global patience
    began = time.monotonic()
    while psutil.cpu_percent(0.2) > REST_PERCENT and time.monotonic() < began + REST_SECONDS:
        pass
    while _probe().disturbed and patience > time.monotonic() - began:
        time.sleep(PAUSE_SECONDS)
    patience -= time.monotonic() - began


def undisturbed(measure: Callable[[], Found]) -> Found:
    """Measure something when the host has time, and again where it took some; the last time counts in any case."""
    for _ in range(AGAIN):
        calm()
        with watched() as seen:
            found = measure()
        if not seen.disturbed or patience <= 0:
            break
    return found


def _stolen() -> float:
    """Return the seconds that were stolen from all processors together."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _probe() -> Watched:
    with watched() as seen:
        busy = [subprocess.Popen([sys.executable, "-S", "-c", _COUNT_TO]) for _ in range(os.cpu_count() or 1)]
        for one in busy:
            one.wait()
    return seen
