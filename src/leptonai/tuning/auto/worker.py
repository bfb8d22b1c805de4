"""A process that tries candidates: it reads the rows once, then does what it is told, so that it can be ended in the middle of a fit.

Pairs come over the line, a word and what belongs to it: ``fold``, ``said``, ``blend``, ``keep``. Each is answered by ``ok`` and what it came
to, by ``failed`` and why, or by ``broke``, which ends the Run.
"""

import os
import signal
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from leptonai.core.errors import Invalid, LeptonError, RunFailed
from leptonai.core.stages import BENCH, Handle, load
from leptonai.tuning.auto.spec import Auto


def work_with(spec: Auto, handle: Handle, line: Connection) -> None:
    """Do what comes over the line, until it is closed; what the rows are is told first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the Run's process decides, and this one ends with it
    folder = Path(f"tried-{os.getpid()}")
    folder.mkdir()
    os.chdir(folder)  # what a training leaves in its folder stays there
    try:
        bench = load(BENCH)(spec.train, spec.model_dump(), handle.twin())
        line.send(("ok", {**bench.facts, "planned": bench.planned()}))
        while True:
            word, about = line.recv()
            line.send(_done(bench, word, about))
    except (EOFError, BrokenPipeError):
        return  # the search has ended
    except LeptonError as error:
        line.send(("broke", error.to_dict()))
    except Exception as error:  # noqa: BLE001 - libraries raise anything
        traceback.print_exc()
        words = f"{type(error).__name__}: {error}"[:1000].strip() + " (the Run's log has the traceback)"
        line.send(("broke", RunFailed(words).to_dict()))


def _done(bench: Any, word: str, about: Any) -> tuple[str, Any]:
    try:
        return "ok", getattr(bench, word)(*about)
    except (Exception, SystemExit) as error:
        if isinstance(error, LeptonError) and not isinstance(error, Invalid):
            raise
        return "failed", _words(error)


def _words(error: BaseException) -> str:
    if isinstance(error, LeptonError):
        return error.message[:500]
    if isinstance(error, MemoryError):
        return "there was not enough memory"
    short = " ".join(str(error).split())[:400]
    return f"{type(error).__name__}: {short}" if short else type(error).__name__
