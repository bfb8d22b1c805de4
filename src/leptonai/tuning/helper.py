"""A process that tries settings for a study: it reads the rows once, then does trial after trial as it is told.

Pairs go over the line, a word and what belongs to it. From here, each answered by one: ``report``, ``save``, ``learnt`` (is its model
to be kept?); without an answer: ``ready``, ``ended``, ``broke`` (what ends the study, and not just a trial).
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

from leptonai.core.errors import LeptonError, RunFailed
from leptonai.core.stages import THREADS, TRIALS, Handle, load
from leptonai.tuning.attempt import attempt
from leptonai.tuning.spec import Tune


class Wire:
    """A `watch.Line` to a study in another process. The lock: checkpoints are written from a thread of their own."""

    def __init__(self, line: Connection, *, reports: bool):
        self._line, self._reports = line, reports
        self._lock = threading.Lock()
        self.files: dict[str, bytes] = {}  # that the trial at work had saved before

    def report(self, number: int, epoch: int, value: float) -> bool:
        """See `watch.Line`."""
        return self._reports and bool(self.ask("report", (number, epoch, value)))

    def save(self, number: int, files: Mapping[str, bytes]) -> None:
        """See `watch.Line`."""
        self.ask("save", (number, dict(files)))

    def saved(self, number: int) -> dict[str, bytes]:  # noqa: ARG002 - of the protocol
        """See `watch.Line`."""
        return dict(self.files)

    def ask(self, word: str, about: object) -> Any:
        """Say something, and return the answer."""
        with self._lock:
            self._line.send((word, about))
            return self._line.recv()


def help_with(
    spec: Tune,
    order: list[str],
    epochs: Sequence[Mapping[str, Any]],
    handle: Handle,
    line: Connection,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Do the trials of a study that come over the line, until it is closed. What `Trials` found out first is told, and `more`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the Run's process decides, and this one ends with it
    folder = Path(f"trials-{os.getpid()}")
    folder.mkdir()
    os.chdir(folder)  # what a training leaves in its folder is one trial's
    try:
        bench = load(TRIALS)(spec.train, spec.built, handle.twin())
        bench.check(order)
        most = max(int(bench.epochs(one)) for one in epochs)
        line.send(("ready", {"epochs": most, "gpu": _has_gpu(), "held": _held(), **more}))
        wire = Wire(line, reports=spec.pruner != "none")
        while True:
            number, params, wire.files, threads = line.recv()
            _compute_with(threads)
            tried = attempt(bench, spec.goals, handle, wire, number, params)
            kept = tried.keep() if tried.keep is not None and wire.ask("learnt", tried.trial) else None
            line.send(("ended", (tried.trial, kept)))
    except EOFError:
        return  # the study has ended
    except BrokenPipeError:
        return
    except LeptonError as error:
        line.send(("broke", error.to_dict()))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
        traceback.print_exc()
        words = f"{type(error).__name__}: {error}"[:1000].strip() + " (the Run's log has the traceback)"
        line.send(("broke", RunFailed(words).to_dict()))


def _compute_with(threads: int) -> None:
    """Have libraries compute with so many threads: as many processes as there are share the cores."""
    if torch := sys.modules.get("torch"):
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
    elif "sklearn" in sys.modules:
        load(THREADS)(threads)


def _has_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())


def _held() -> int:
    """Return the bytes that are this process's own."""
    lines = Path("/proc/self/smaps_rollup").read_text("ascii").splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))
